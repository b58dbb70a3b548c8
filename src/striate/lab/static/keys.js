// Keys of an element: `onKeys(element, { ArrowLeft: () => move(-1, 0) })`. What is named is not scrolled with.

/** Keys by their name; with Shift, `Shift+ArrowLeft`. Fields in which one types keep theirs. */
export function onKeys(element, actions) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== element && event.target.closest("input, textarea, select")) return;
    const action = (event.shiftKey && actions[`Shift+${event.key}`]) || actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}
