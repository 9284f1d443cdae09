// A box drawn on the query photo, by mouse, finger or keys.  Boxes are [left, top, right, bottom], parts of the photo.

import { make, say } from "./dom.js";

const SMALLEST = 0.04;
const STEP = 0.02;
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

export class Crop {
  /** On *stage*, whose first child is the photo.  *onChange* gets the box that was decided on, or null for the whole photo. */
  constructor(stage, onChange) {
    this.stage = stage;
    this.onChange = onChange;
    this.box = null;
    this.decided = null;
    this.drag = null;
    const keys = "Part of the photo to search for. Arrows move it, Shift and arrows change its size, Enter searches, Escape takes the whole photo.";
    this.frame = make("div", { class: "crop-box", tabindex: "0", role: "group", "aria-label": keys, hidden: true, onkeydown: (event) => this.key(event) },
      HANDLES.map((side) => make("span", { class: `handle ${side}`, "data-side": side, "aria-hidden": "true" })));
    this.hint = make("div", { class: "crop-hint", "aria-hidden": "true", hidden: true });
    stage.append(this.hint, this.frame);
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.moved(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", () => this.cancel());
  }

  /** Show *box* as decided, and *suggested* as a dashed hint where nothing is cropped. */
  show(box, suggested) {
    this.decided = box;
    this.suggested = suggested;
    this.set(box);
    this.active(box !== null);
  }

  /** A box to start from, for fingers and keys. */
  begin() {
    this.set(this.box ?? this.suggested ?? [0.15, 0.15, 0.85, 0.85]);
    this.active(true);
    this.frame.focus();
    say("Crop box shown. Arrows move it, Shift and arrows change its size, Enter searches.");
  }

  decide(box) {
    this.decided = box;
    this.set(box);
    this.active(box !== null);
    this.onChange(box);
  }

  cancel() {
    this.drag = null;
    this.set(this.decided);
  }

  /** While active, a finger on the photo draws; else it scrolls the page. */
  active(yes) {
    this.stage.classList.toggle("cropping", yes);
  }

  set(box) {
    this.box = box;
    this.frame.hidden = box === null;
    if (box) place(this.frame, box);
    this.hint.hidden = box !== null || !this.suggested;
    if (this.suggested) place(this.hint, this.suggested);
  }

  point(event) {
    const area = this.stage.getBoundingClientRect();
    return [clamp((event.clientX - area.left) / area.width), clamp((event.clientY - area.top) / area.height)];
  }

  down(event) {
    if (event.button !== 0 || (event.pointerType === "touch" && !this.stage.classList.contains("cropping"))) return;
    event.preventDefault();
    this.stage.setPointerCapture(event.pointerId);
    const [x, y] = this.point(event);
    const side = event.target.dataset?.side;
    const inside = this.box && x > this.box[0] && x < this.box[2] && y > this.box[1] && y < this.box[3];
    this.drag = { x, y, from: this.box, how: side ?? (inside ? "move" : "new") };
  }

  moved(event) {
    if (!this.drag) return;
    const [x, y] = this.point(event);
    const { from, how } = this.drag;
    const east = x - this.drag.x;
    const south = y - this.drag.y;
    if (how === "new") this.set([Math.min(x, this.drag.x), Math.min(y, this.drag.y), Math.max(x, this.drag.x), Math.max(y, this.drag.y)]);
    else if (how === "move") this.set(shifted(from, east, south));
    else this.set(resized(from, how, east, south));
  }

  up() {
    if (!this.drag) return;
    const { from, how } = this.drag;
    this.drag = null;
    const large = this.box && this.box[2] - this.box[0] >= SMALLEST && this.box[3] - this.box[1] >= SMALLEST;
    if (!large || (from && how !== "new" && same(from, this.box))) this.set(this.decided ?? (how === "new" ? null : from));
    else this.decide(this.box);
  }

  key(event) {
    const steps = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key in steps) {
      const [east, south] = steps[event.key];
      this.set(event.shiftKey ? resized(this.box, "se", east, south) : shifted(this.box, east, south));
    } else if (event.key === "Enter") this.decide(this.box);
    else if (event.key === "Escape") this.decide(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function place(element, [left, top, right, bottom]) {
  element.style.left = `${left * 100}%`;
  element.style.top = `${top * 100}%`;
  element.style.width = `${(right - left) * 100}%`;
  element.style.height = `${(bottom - top) * 100}%`;
}

function clamp(part) {
  return Math.min(1, Math.max(0, part));
}

function same(a, b) {
  return a.every((part, i) => Math.abs(part - b[i]) < 1e-4);
}

function shifted([left, top, right, bottom], east, south) {
  const x = Math.min(Math.max(east, -left), 1 - right);
  const y = Math.min(Math.max(south, -top), 1 - bottom);
  return [left + x, top + y, right + x, bottom + y];
}

function resized([left, top, right, bottom], side, east, south) {
  const box = [left, top, right, bottom];
  if (side.includes("w")) box[0] = Math.min(clamp(left + east), right - SMALLEST);
  if (side.includes("e")) box[2] = Math.max(clamp(right + east), left + SMALLEST);
  if (side.includes("n")) box[1] = Math.min(clamp(top + south), bottom - SMALLEST);
  if (side.includes("s")) box[3] = Math.max(clamp(bottom + south), top + SMALLEST);
  return box;
}
