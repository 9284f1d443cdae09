// Photos as a grid: the answers to a query, or the photos of a landmark.  Arrow keys walk through it.

import * as api from "./api.js";
import { icon, iconButton, make, replace } from "./dom.js";
import * as words from "./words.js";

export class Grid {
  /** *onOpen(item)* on Enter or click; *onMore(item)* asks for more like it; *onSelect(ids)* while photos are being selected. */
  constructor({ label, onOpen, onMore, onSelect = () => {}, named = true }) {
    this.named = named;
    this.onOpen = onOpen;
    this.onMore = onMore;
    this.onSelect = onSelect;
    this.items = [];
    this.selected = null;
    this.element = make("ol", { class: "grid", "aria-label": label, onkeydown: (event) => this.key(event) });
  }

  /** Show *items*; photos of the landmark *voted* are marked. */
  show(items, { voted = null } = {}) {
    this.items = items;
    this.voted = voted;
    if (this.selected) this.selected = new Set([...this.selected].filter((id) => items.some((item) => item.id === id)));
    this.element.classList.remove("stale");
    replace(this.element, items.map((item, place) => this.tile(item, place)));
  }

  waiting(howMany = 12) {
    if (this.items.length) this.element.classList.add("stale");
    else replace(this.element, Array.from({ length: howMany }, () => make("li", { class: "tile", "aria-hidden": "true" }, make("div", { class: "bone picture" }), make("div", { class: "bone" }))));
  }

  clear() {
    this.items = [];
    this.element.classList.remove("stale");
    replace(this.element);
  }

  /** Start or end selecting; the set of ids, or null. */
  selecting(yes) {
    this.selected = yes ? new Set() : null;
    this.element.classList.toggle("selecting", yes);
    this.show(this.items, { voted: this.voted });
    this.onSelect(this.selected);
  }

  tile(item, place) {
    const name = words.landmark(item.landmark, item.landmark_name);
    const about = [words.country(item.country), words.day(item.taken)].filter(Boolean).join(" · ");
    const step = words.move(item.why);
    const chosen = this.selected?.has(item.id) ?? false;
    const said = [item.rank && `Rank ${item.rank}`, name, about, item.score !== undefined && `score ${words.score(item.score)}`, step && `moved ${words.moved(step)}`];
    const photo = make("button",
      { type: "button", class: "photo", tabindex: place === 0 ? "0" : "-1", "aria-label": said.filter(Boolean).join(", "), "aria-pressed": this.selected ? String(chosen) : null, title: step && step.steps.map(words.stepTold).join("\n"), onclick: () => this.open(item) },
      make("img", { src: api.thumbnail(item.id, 400), alt: "", loading: place < 12 ? "eager" : "lazy", decoding: "async" }),
      this.selected && make("span", { class: "tick", "aria-hidden": "true" }, icon("check")));
    const supports = this.voted !== null && item.landmark === this.voted;
    return make("li", { class: `tile ${chosen ? "chosen" : ""}`, "data-id": item.id }, photo,
      item.rank !== undefined && make("span", { class: "rank", "aria-hidden": "true" }, item.rank),
      step && step.before !== step.after && badge(step),
      make("div", { class: "caption" },
        make("p", { class: `tile-name ${this.named && item.landmark === null ? "none" : ""}`, title: name },
          supports && make("span", { class: "supports", title: "Votes for the answer" }), this.named ? name : words.day(item.taken) || item.id),
        iconButton("More like this", "more", { kind: "tile-more", tabindex: "-1", onclick: () => this.onMore(item) }),
        make("p", { class: "tile-about", title: about }, [words.country(item.country), this.named && words.year(item.taken)].filter(Boolean).join(" · ")),
        item.score !== undefined && make("p", { class: "tile-score" }, words.score(item.score))));
  }

  open(item) {
    if (!this.selected) return this.onOpen(item);
    if (!this.selected.delete(item.id)) this.selected.add(item.id);
    const tile = this.element.querySelector(`[data-id="${CSS.escape(item.id)}"]`);
    const chosen = this.selected.has(item.id);
    tile.classList.toggle("chosen", chosen);
    tile.querySelector(".photo").setAttribute("aria-pressed", String(chosen));
    return this.onSelect(this.selected);
  }

  /** The item whose tile has the focus, or null. */
  focused() {
    const tile = document.activeElement?.closest?.(".tile");
    return tile && this.element.contains(tile) ? this.items.find((item) => item.id === tile.dataset.id) ?? null : null;
  }

  focus(place = 0) {
    const tiles = this.element.querySelectorAll(".photo");
    const tile = tiles[Math.min(Math.max(place, 0), tiles.length - 1)];
    if (!tile) return;
    for (const other of tiles) other.tabIndex = other === tile ? 0 : -1;
    tile.focus();
  }

  highlight(ids) {
    for (const tile of this.element.querySelectorAll(".tile")) tile.classList.toggle("pointed", ids.has(tile.dataset.id));
  }

  key(event) {
    const tiles = [...this.element.querySelectorAll(".photo")];
    const here = tiles.indexOf(document.activeElement);
    if (here < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle(this.element).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) {
      const next = here + steps[event.key];
      if (next >= 0 && next < tiles.length) this.focus(next);
    } else if (event.key === "Home") this.focus(0);
    else if (event.key === "End") this.focus(tiles.length - 1);
    else return;
    event.preventDefault();
  }
}

/** The rank that re-ranking moved an answer from. */
function badge(step) {
  const up = step.before === null || step.after < step.before;
  return make("span", { class: `moved ${up ? "up" : "down"}`, "aria-hidden": "true" }, icon(up ? "up" : "down"), step.before ?? "new");
}
