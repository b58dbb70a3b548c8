// Play: the windows of a kernel on a map, and classic kernels on a picture.
import { make } from "./dom.js";
import { PICTURE_ADDRESS, pictureLaboratory } from "./play_picture.js";
import { WINDOW_ADDRESS, windowLaboratory } from "./play_windows.js";

export const ADDRESS = [...WINDOW_ADDRESS, ...PICTURE_ADDRESS];

export async function page(root) {
  const windows = make("section", { "aria-label": "Windows" });
  const picture = make("section", { "aria-label": "A kernel on a picture" });
  root.append(windows, picture);
  await windowLaboratory(windows);
  await pictureLaboratory(picture);
}
