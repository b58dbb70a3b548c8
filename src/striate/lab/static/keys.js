// Keys of an element: `onKeys(element, { ArrowLeft: () => move(-1, 0) })`. These keys do not scroll.

const PRESSING = ["Enter", " "]; // press the button that is focused

/** Keys by their name; with Shift, `Shift+ArrowLeft`. Fields in which one types keep theirs, and buttons Enter
 * and the space bar. */
export function onKeys(element, actions) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== element && event.target.closest(`input, textarea, select${PRESSING.includes(event.key) ? ", button, a, summary" : ""}`)) return;
    const action = (event.shiftKey && actions[`Shift+${event.key}`]) || actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}
