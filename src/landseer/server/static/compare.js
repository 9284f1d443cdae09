// Two photos side by side, with lines between the points that match.

import * as api from "./api.js";
import { button, draw, iconButton, make, replace, say } from "./dom.js";
import { go, leaveTo, queryKey, state } from "./state.js";
import { uploads } from "./uploads.js";
import * as words from "./words.js";

const GAP = 14;
const SIDE = 1280;
const MOST_LINES = 80;

export class Compare {
  /** *curate(item)* makes the buttons that set the label of a photo right. */
  constructor(curate) {
    this.curate = curate;
    this.lines = true;
    this.known = new Map();
    this.title = make("h2", { id: "compare-title" });
    this.stage = draw("svg", { class: "pair", role: "img" });
    this.told = make("p", { class: "matched", role: "status" });
    this.facts = make("dl", { class: "facts" });
    this.moves = make("ul", { class: "moves", "aria-label": "Why re-ranking moved it" });
    this.actions = make("div", { class: "row" });
    this.before = iconButton("The answer before (left arrow)", "left", { kind: "step", onclick: () => this.step(-1) });
    this.after = iconButton("The next answer (right arrow)", "right", { kind: "step", onclick: () => this.step(1) });
    this.element = make("dialog", { class: "compare", "aria-labelledby": "compare-title", onkeydown: (event) => this.key(event) },
      make("header", {}, this.title, iconButton("Close", "close", { onclick: () => this.element.close() })),
      make("div", { class: "pair-frame" }, this.before, this.stage, this.after),
      make("div", { class: "compare-foot" }, make("div", {}, this.told, this.facts, this.moves), this.actions));
    this.element.addEventListener("close", () => state.view.beside !== null && go({ beside: null }));
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
    new ResizeObserver(() => this.lay()).observe(this.stage.parentElement ?? this.element);
  }

  /** Show the photo that the view names beside the query; close where it names none. */
  async show() {
    const { beside } = state.view;
    if (beside === null) {
      this.element.close();
      return;
    }
    const item = state.answer?.answers.find(({ id }) => id === beside) ?? await api.photo(beside).catch(() => ({ id: beside, landmark: null }));
    if (state.view.beside !== beside) return;
    if (!this.element.open) this.element.showModal();
    this.fill(item);
    await this.load(item);
  }

  fill(item) {
    this.item = item;
    const place = item.rank ? `Answer ${item.rank}` : "A voter";
    this.title.textContent = `${place}: ${words.landmark(item.landmark, item.landmark_name)}`;
    const step = words.move(item.why);
    const facts = [
      ["Score", item.score === undefined ? null : words.score(item.score)],
      ["Country", words.country(item.country)],
      ["Taken", words.day(item.taken)],
      [item.place === "landmark" ? "Place of the landmark" : "Place", Number.isFinite(item.latitude) && Number.isFinite(item.longitude) ? `${item.latitude.toFixed(4)}, ${item.longitude.toFixed(4)}` : null],
      ["Id", item.id],
    ];
    replace(this.facts, facts.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    replace(this.moves, (step?.steps ?? []).map((each) => make("li", {}, words.stepTold(each))));
    const rank = this.rank();
    this.before.disabled = rank <= 0;
    this.after.disabled = rank < 0 || rank >= state.answer.answers.length - 1;
    replace(this.actions,
      button("More like this", { icon: "more", kind: "primary", onclick: () => leaveTo({ id: item.id }) }),
      button(this.lines ? "Hide lines" : "Show lines", { icon: "compare", kind: "quiet lines", "aria-pressed": String(this.lines), onclick: () => this.toggle() }),
      ...this.curate(item));
  }

  /** Both photos, then the points between them. */
  async load(item) {
    const [left, right] = queryAddress();
    replace(this.stage);
    this.stage.setAttribute("aria-label", `The query beside ${words.landmark(item.landmark, item.landmark_name)}`);
    this.told.textContent = "Matching points…";
    this.pair = null;
    this.points = [];
    const [a, b] = await Promise.all([loaded(left), loaded(api.image(item.id, SIDE))]);
    if (this.item !== item) return;
    this.pair = [a, b];
    this.lay();
    const key = `${queryKey(state.view)} ${item.id}`;
    try {
      if (!this.known.has(key)) this.known.set(key, await api.match(right, item.id));
      if (this.item !== item) return;
      this.points = this.known.get(key).points;
      this.told.textContent = matched(this.known.get(key).inliers);
      say(this.told.textContent);
    } catch (error) {
      if (this.item === item) this.told.textContent = `Points could not be matched: ${error.message}`;
    }
    this.lay();
  }

  /** Side by side where there is room, one above the other on a phone; lines follow. */
  lay() {
    if (!this.pair) return;
    const [a, b] = this.pair;
    const stacked = this.stage.clientWidth < 560;
    const one = { x: 0, y: 0, width: stacked ? 1000 : (1000 * a.width) / a.height, height: stacked ? (1000 * a.height) / a.width : 1000 };
    const two = { width: stacked ? 1000 : (1000 * b.width) / b.height, height: stacked ? (1000 * b.height) / b.width : 1000 };
    two.x = stacked ? 0 : one.width + GAP;
    two.y = stacked ? one.height + GAP : 0;
    const [width, height] = [stacked ? 1000 : two.x + two.width, stacked ? two.y + two.height : 1000];
    this.stage.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const photos = [[a, one], [b, two]].map(([photo, box]) => draw("image", { href: photo.url, preserveAspectRatio: "none", ...box }));
    replace(this.stage, photos, this.lines ? this.drawLines(one, two, Math.max(width, height)) : null);
  }

  drawLines(one, two, size) {
    const at = (box, x, y) => [box.x + x * box.width, box.y + y * box.height];
    const shown = this.points.slice(0, MOST_LINES).map(([xa, ya, xb, yb]) => [at(one, xa, ya), at(two, xb, yb)]);
    const dot = ([cx, cy]) => draw("circle", { cx, cy, r: size / 280 });
    return draw("g", { class: "matches" }, shown.map(([[x1, y1], [x2, y2]]) => draw("line", { x1, y1, x2, y2 })), shown.flatMap(([from, to]) => [dot(from), dot(to)]));
  }

  toggle() {
    this.lines = !this.lines;
    this.fill(this.item);
    this.lay();
    this.element.querySelector(".lines").focus();
  }

  rank() {
    return state.answer?.answers.findIndex(({ id }) => id === this.item.id) ?? -1;
  }

  step(by) {
    const next = state.answer?.answers[this.rank() + by];
    if (next && this.rank() >= 0) go({ beside: next.id }, { replace: true });
  }

  key(event) {
    if (event.target.closest("input, select, textarea")) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "m") leaveTo({ id: this.item.id });
    else if (event.key === "l") this.toggle();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** Where the query can be seen, and what the server needs to match it. */
function queryAddress() {
  const { upload, id } = state.view;
  return upload === null ? [api.image(id, SIDE), id] : [uploads[upload].url, uploads[upload].file];
}

function loaded(url) {
  return new Promise((resolve) => {
    const photo = new Image();
    photo.onload = () => resolve({ url, width: photo.naturalWidth, height: photo.naturalHeight });
    photo.onerror = () => resolve({ url: "", width: 4, height: 3 });
    photo.src = url;
  });
}

function matched(inliers) {
  if (!inliers) return "No points match. That says little where light or viewpoint differ much.";
  const points = `${words.count(inliers)} ${inliers === 1 ? "point matches" : "points match"}`;
  if (inliers >= 20) return `${points} under one change of viewpoint: the same object, most likely.`;
  if (inliers >= 8) return `${points} under one change of viewpoint: some support.`;
  return `${points}: few enough to be chance.`;
}
