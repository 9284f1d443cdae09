// Keys that work everywhere, and the page that lists them.

import { iconButton, make } from "./dom.js";

const KEYS = [
  ["o", "choose photos"], ["Ctrl V", "paste a photo"], ["arrows", "walk through the photos"], ["Enter", "compare the photo with the query"],
  ["m", "more like the photo that has the focus"], ["a", "go to the answers"], ["c", "crop the query"], ["f", "filter"], ["s", "select photos"], ["Esc", "close what is open"],
  ["← →", "previous and next while comparing"], ["l", "lines on and off while comparing"], ["d", "light or dark"], ["g l", "landmarks"], ["g c", "countries"], ["g u", "unlabelled photos"],
  ["?", "this help"],
];

/** *actions*: key -> what it does; a key of two strokes is written "g l". */
export function listenToKeys(actions) {
  let before = "";
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
    const both = `${before} ${event.key}`;
    const action = actions[both] ?? actions[event.key];
    before = event.key === "g" ? "g" : "";
    if (!action) return;
    event.preventDefault();
    action();
  });
}

export function helpDialog() {
  const dialog = make("dialog", { class: "ask help", "aria-labelledby": "help-title" },
    make("header", {}, make("h2", { id: "help-title" }, "Keys"), iconButton("Close", "close", { onclick: () => dialog.close() })),
    make("dl", { class: "keys" }, KEYS.map(([key, what]) => make("div", {}, make("dt", {}, ...key.split(" ").map((one) => make("kbd", {}, one))), make("dd", {}, what)))),
    make("p", { class: "soft small" }, "Drag on the query photo to search for a part of it. Drag over the timeline, or choose a dot or a country of the map, to narrow the answers down. The address of the page shows the same view again."));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.getElementById("dialogs").append(dialog);
  return dialog;
}
