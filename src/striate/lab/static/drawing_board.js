// A board to draw a digit on, white on black as in MNIST: with a pointer, or with arrow keys and the space bar.
import { make } from "./dom.js";
import { onKeys } from "./keys.js";

const SIDE = 280; // pixels of the board
const SMALL = 28; // of the picture that is sent
const PEN = 22;

/** The board; `send(blob)` gets a PNG of 28 × 28 pixels after each stroke. */
export function drawingBoard(send) {
  const board = make("canvas", {
    class: "draw-digit", width: SIDE, height: SIDE, tabindex: "0", role: "img",
    "aria-label": "Drawing board of 28 by 28 pixels. Arrow keys move the pen, the space bar sets it down or lifts it.",
  });
  const brush = board.getContext("2d");
  const said = make("p", { class: "faint", "aria-live": "polite" }, "Draw with the pointer, or with arrow keys; space sets the pen down.");
  let pen = { x: SIDE / 2, y: SIDE / 4, down: false };

  function clear() {
    brush.fillStyle = "#000";
    brush.fillRect(0, 0, SIDE, SIDE);
    brush.strokeStyle = "#fff";
    brush.lineWidth = PEN;
    brush.lineCap = brush.lineJoin = "round";
  }
  function line(from, to) {
    brush.beginPath();
    brush.moveTo(from.x, from.y);
    brush.lineTo(to.x, to.y);
    brush.stroke();
  }
  function finish() {
    const small = make("canvas", { width: SMALL, height: SMALL });
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(board, 0, 0, SMALL, SMALL);
    small.toBlob((blob) => send(blob), "image/png");
  }
  function place(event) {
    const box = board.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIDE, y: ((event.clientY - box.top) / box.height) * SIDE };
  }
  let last = null;
  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
  });
  board.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    line(last, next);
    last = next;
  });
  board.addEventListener("pointerup", () => { if (last) { last = null; finish(); } });
  board.addEventListener("pointercancel", () => { last = null; });

  function move(x, y) {
    const next = { ...pen, x: Math.min(SIDE - 15, Math.max(15, pen.x + 10 * x)), y: Math.min(SIDE - 15, Math.max(15, pen.y + 10 * y)) };
    if (pen.down) line(pen, next);
    pen = next;
    said.textContent = `Pen ${pen.down ? "down" : "up"} at column ${Math.round(pen.x / 10)}, row ${Math.round(pen.y / 10)} of 28.`;
  }
  onKeys(board, {
    ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
    " ": () => {
      pen.down = !pen.down;
      if (pen.down) line(pen, pen);
      else finish();
      move(0, 0);
    },
  });
  clear();
  return make("div", {}, board, make("div", { class: "row" }, make("button", { type: "button", onclick: clear }, "Clear")), said);
}
