// Every page begins here: the token leaves the address, then the page's own module draws it.
import { signIn, signOut } from "./api.js";
import { remember, tellUnknown } from "./address.js";
import { problem } from "./problem.js";

remember({ token: null });
signIn(document.querySelector("meta[name=key]")?.content);
document.getElementById("sign-out").onclick = signOut;

const name = document.body.dataset.page;
if (name) {
  const root = document.getElementById("page");
  root.replaceChildren();
  try {
    const module = await import(`./${name}.js`);
    tellUnknown(module.ADDRESS);
    await module.page(root);
  } catch (error) {
    root.append(problem(error));
  }
}
