// The world, and where the answers are.  The outline comes with the program (world.json, see LICENSE.txt); nothing is fetched
// from elsewhere.  Natural Earth projection (Savric, Jenny et al., 2011), as in docs/make_world_map.py.

import { draw, iconButton, make, replace } from "./dom.js";
import * as words from "./words.js";

const RADIUS = 4000;
const HOME = { x: -10950, y: -5400, width: 21900, height: 9900 };
const NARROWEST = 350;
const NEAR_PX = 16;

let world = null;

function loadWorld() {
  world ??= fetch("/static/world.json").then((response) => response.json());
  return world;
}

/** Units east and south of where the equator meets Greenwich; degrees in. */
export function project(latitude, longitude) {
  const lon = (longitude * Math.PI) / 180;
  const lat = (latitude * Math.PI) / 180;
  const two = lat * lat;
  const four = two * two;
  const x = lon * (0.8707 - 0.131979 * two + four * (-0.013791 + four * (0.003971 * two - 0.001529 * four)));
  const y = lat * (1.007226 + two * (0.015085 + four * (-0.044475 + 0.028874 * two - 0.005916 * four)));
  return [x * RADIUS, -y * RADIUS];
}

export class WorldMap {
  /** *onPick(points)* when a dot is chosen, *onPoint(points)* while one is pointed at (an empty list: none any more). */
  constructor({ label, onPick, onPoint = () => {}, onCountry = null }) {
    this.onPick = onPick;
    this.onPoint = onPoint;
    this.onCountry = onCountry;
    this.points = [];
    this.shades = new Map();
    this.view = { ...HOME };
    this.pointers = new Map();
    this.lands = draw("g", { class: "lands" });
    this.dots = draw("g", { class: "dots" });
    this.svg = draw("svg", { class: "world", role: "group", "aria-label": label, preserveAspectRatio: "xMidYMid slice" }, this.lands, this.dots);
    this.told = make("p", { class: "map-told soft" });
    this.tip = make("div", { class: "tip", "aria-hidden": "true", hidden: true });
    const tools = make("div", { class: "map-tools" },
      iconButton("Closer", "plus", { onclick: () => this.zoom(0.5) }),
      iconButton("Further away", "minus", { onclick: () => this.zoom(2) }),
      iconButton("All answers", "fit", { onclick: () => this.fit() }));
    this.frame = make("div", { class: "map-frame" }, this.svg, tools, this.tip);
    this.element = make("div", { class: "map" }, this.frame, this.told);
    this.listen();
    this.ready = loadWorld().then((loaded) => this.outline(loaded));
  }

  outline({ outline, countries }) {
    this.paths = countries.map(({ code, name, path }) => {
      const land = draw("path", { d: path, class: "land", "data-code": code });
      if (this.onCountry && code) land.addEventListener("click", () => !this.panned && this.shades.has(code) && this.onCountry(code));
      land.addEventListener("pointerenter", () => this.shades.has(code) && this.tell(land, `${code ? words.country(code) : name}: ${this.shades.get(code).label}`));
      land.addEventListener("pointerleave", () => { this.tip.hidden = true; });
      return [code, land];
    });
    replace(this.lands, draw("path", { d: outline, class: "sea" }), this.paths.map(([, land]) => land));
    this.shade();
  }

  /** *points*: {latitude, longitude, weight (0..1), label, ids}.  *shades*: country -> {share (0..1), label}. */
  show(points, shades, told) {
    this.points = points.map((point) => ({ ...point, at: project(point.latitude, point.longitude) }));
    this.shades = shades;
    this.told.textContent = told;
    this.shade();
    this.fit();
  }

  shade() {
    for (const [code, land] of this.paths ?? []) {
      const share = this.shades.get(code)?.share ?? 0;
      land.classList.toggle("held", share > 0);
      land.style.setProperty("--share", share ? String(0.25 + 0.75 * Math.sqrt(share)) : "0");
    }
  }

  /** All answers in sight; the whole world where there are none. */
  fit() {
    if (!this.points.length) return this.look(HOME);
    const xs = this.points.map(({ at }) => at[0]);
    const ys = this.points.map(({ at }) => at[1]);
    const [west, east] = [Math.min(...xs), Math.max(...xs)];
    const [north, south] = [Math.min(...ys), Math.max(...ys)];
    const width = Math.max((east - west) * 1.35, (south - north) * 1.35 * this.aspect(), 3200);
    return this.look({ x: (west + east - width) / 2, y: (north + south) / 2 - width / this.aspect() / 2, width });
  }

  aspect() {
    return this.svg.clientWidth / this.svg.clientHeight || 2;
  }

  zoom(factor, [x, y] = [this.view.x + this.view.width / 2, this.view.y + this.view.height / 2]) {
    const width = Math.min(HOME.width, Math.max(NARROWEST, this.view.width * factor));
    const part = width / this.view.width;
    this.look({ x: x - (x - this.view.x) * part, y: y - (y - this.view.y) * part, width });
  }

  look({ x, y, width }) {
    const wide = Math.min(HOME.width, width);
    const high = wide / this.aspect();
    const left = wide === HOME.width ? HOME.x : Math.min(Math.max(x, HOME.x - wide * 0.1), HOME.x + HOME.width - wide * 0.9);
    const top = high >= HOME.height ? HOME.y + (HOME.height - high) / 2 : Math.min(Math.max(y, HOME.y - high * 0.1), HOME.y + HOME.height + 1100 - high * 0.9);
    this.view = { x: left, y: top, width: wide, height: high };
    this.svg.setAttribute("viewBox", `${left} ${top} ${wide} ${high}`);
    this.svg.style.setProperty("--unit", String(wide / (this.svg.clientWidth || 600)));
    this.placeDots();
  }

  /** Dots that would overlap are one dot. */
  placeDots() {
    const unit = this.view.width / (this.svg.clientWidth || 600);
    const groups = [];
    for (const point of [...this.points].sort((a, b) => b.weight - a.weight)) {
      const near = groups.find(({ at }) => Math.hypot(at[0] - point.at[0], at[1] - point.at[1]) < NEAR_PX * unit);
      if (near) {
        near.points.push(point);
        near.weight += point.weight;
      } else groups.push({ at: point.at, weight: point.weight, points: [point] });
    }
    const most = Math.max(...groups.map(({ weight }) => weight), 1e-9);
    replace(this.dots, groups.reverse().map((group) => this.dot(group, unit, most)));
  }

  dot({ at, weight, points }, unit, most) {
    const label = describe(points);
    const [cx, cy] = at;
    const radius = (5 + 11 * Math.sqrt(weight / most)) * unit;
    const dot = draw("circle", { cx, cy, r: radius, class: "dot", tabindex: "0", role: "button", "aria-label": label });
    const choose = () => this.onPick(points);
    dot.addEventListener("click", () => !this.panned && choose());
    dot.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose();
    });
    for (const kind of ["pointerenter", "focus"]) dot.addEventListener(kind, () => { this.tell(dot, label); this.onPoint(points); });
    for (const kind of ["pointerleave", "blur"]) dot.addEventListener(kind, () => { this.tip.hidden = true; this.onPoint([]); });
    return dot;
  }

  tell(element, text) {
    const frame = this.frame.getBoundingClientRect();
    const spot = element.getBoundingClientRect();
    const centre = element.classList.contains("land") ? this.mouse?.[0] ?? spot.left - frame.left : spot.left - frame.left + spot.width / 2;
    const top = element.classList.contains("land") ? (this.mouse?.[1] ?? 0) - 8 : spot.top - frame.top - 6;
    this.tip.textContent = text;
    this.tip.hidden = false;
    const half = this.tip.offsetWidth / 2 + 6;
    this.tip.style.left = `${Math.min(Math.max(centre, half), frame.width - half)}px`;
    this.tip.style.top = `${Math.max(top, this.tip.offsetHeight + 4)}px`;
  }

  listen() {
    new ResizeObserver(() => this.svg.clientWidth && this.fit()).observe(this.svg);
    this.svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && !this.frame.matches(":focus-within")) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.spot(event));
    }, { passive: false });
    this.svg.addEventListener("dblclick", (event) => this.zoom(0.5, this.spot(event)));
    this.svg.addEventListener("pointerdown", (event) => { this.pointers.set(event.pointerId, [event.clientX, event.clientY]); this.panned = false; });
    this.svg.addEventListener("pointermove", (event) => this.drag(event));
    for (const kind of ["pointerup", "pointercancel", "pointerleave"]) this.svg.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
  }

  spot(event) {
    const area = this.svg.getBoundingClientRect();
    const unit = this.view.width / area.width;
    return [this.view.x + (event.clientX - area.left) * unit, this.view.y + (event.clientY - area.top) * unit];
  }

  /** One pointer moves the map, two zoom it. */
  drag(event) {
    const frame = this.frame.getBoundingClientRect();
    this.mouse = [event.clientX - frame.left, event.clientY - frame.top];
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const unit = this.view.width / this.svg.clientWidth;
    const now = [event.clientX, event.clientY];
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length) {
      const apart = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]) || 1;
      this.panned = true;
      this.zoom(apart(before) / apart(now), this.spot(event));
    } else if (this.panned || Math.hypot(now[0] - before[0], now[1] - before[1]) > 3) {
      this.panned = true;
      this.tip.hidden = true;
      this.look({ ...this.view, x: this.view.x - (now[0] - before[0]) * unit, y: this.view.y - (now[1] - before[1]) * unit });
    } else return;
    this.pointers.set(event.pointerId, now);
  }
}

function describe(points) {
  const labels = [...new Set(points.map(({ label }) => label))];
  const photos = words.photos(points.reduce((sum, { ids }) => sum + ids.length, 0));
  const rest = labels.length - 2;
  return `${labels.slice(0, 2).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}: ${photos}`;
}

/** Where answers are: a dot for each that knows its place, a shade for each country, weighed by rank and score. */
export function whereabouts(answers) {
  const best = Math.max(...answers.map(({ score }) => score), 1e-9);
  const weigh = ({ score }) => Math.max(0, score / best) ** 3;
  const points = answers.filter(located).map((answer) => ({
    latitude: answer.latitude, longitude: answer.longitude, weight: weigh(answer), label: words.landmark(answer.landmark, answer.landmark_name), ids: [answer.id],
    landmark: answer.landmark,
  }));
  const sums = new Map();
  let all = 0;
  for (const answer of answers) {
    all += weigh(answer);
    if (!answer.country) continue;
    const before = sums.get(answer.country) ?? { weight: 0, photos: 0 };
    sums.set(answer.country, { weight: before.weight + weigh(answer), photos: before.photos + 1 });
  }
  const shades = new Map([...sums].map(([code, { weight, photos }]) => [code, { share: weight / (all || 1), label: words.photos(photos) }]));
  const told = points.length
    ? `${points.length} of ${words.photos(answers.length)} with a place. Larger dots weigh more.`
    : shades.size ? "No answer knows its exact place; countries are shaded by weight." : "No answer knows where it was taken.";
  return { points, shades, told };
}

function located({ latitude, longitude }) {
  return Number.isFinite(latitude) && Number.isFinite(longitude);
}
