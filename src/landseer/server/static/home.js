// What stands below "Which place is this?": what the index holds, photos to start from, and a hint for the first time.

import * as api from "./api.js";
import { iconButton, make, replace } from "./dom.js";
import { leaveTo } from "./state.js";
import * as words from "./words.js";

const HINT = "landseer-hint-seen";
const STARTS = 12;

export async function showStart(host, index) {
  if (host.dataset.shown) return;
  host.dataset.shown = "yes";
  replace(host, hint(), facts(index));
  if (!index.photos) {
    host.append(make("p", { class: "empty" }, "This index holds no photos yet. Add some with landseer index add, and they appear here."));
    return;
  }
  const { photos } = await api.photos({ limit: STARTS });
  host.append(make("h2", {}, "Or start from a photo of the collection"), make("ul", { class: "starts" }, photos.map((item) => make("li", {},
    make("button", { type: "button", class: "photo", "aria-label": `Search with a photo of ${words.landmark(item.landmark, item.landmark_name)}`, onclick: () => leaveTo({ id: item.id }) },
      make("img", { src: api.thumbnail(item.id, 320), alt: "", loading: "lazy", decoding: "async" }))))));
}

function facts(index) {
  const told = [
    [words.count(index.photos), index.photos === 1 ? "photo" : "photos"],
    [words.count(index.landmarks), index.landmarks === 1 ? "landmark" : "landmarks"],
    [words.count(index.countries), index.countries === 1 ? "country" : "countries"],
    [words.count(index.labelled), "with a label"],
  ];
  return make("dl", { class: "numbers" }, told.map(([number, what]) => make("div", {}, make("dt", {}, what), make("dd", {}, number))));
}

function hint() {
  if (localStorage.getItem(HINT)) return null;
  const steps = [["Drop a photo", "of a building, a statue, a view."], ["Read the answer:", "its name, how sure that is, and which photos say so."], ["Go on:", "crop, filter, compare, or set a label right; the next answer knows it."]];
  const close = iconButton("Do not show this again", "close", { onclick: () => { localStorage.setItem(HINT, "yes"); element.remove(); } });
  const element = make("aside", { class: "hint", "aria-label": "How it works" }, make("ol", {}, steps.map(([what, how]) => make("li", {}, make("b", {}, what), " ", how))), close);
  return element;
}
