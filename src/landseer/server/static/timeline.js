// When the answers were taken: one bar a year, or a month where all lie within three years.

import { make, replace } from "./dom.js";
import * as words from "./words.js";

const MOST_BARS = 60;

export class Timeline {
  /** *onRange(from, to)* with two dates of the index's kind, "2019" or "2019-04". */
  constructor(onRange) {
    this.onRange = onRange;
    this.start = null;
    this.bars = make("div", { class: "bars", role: "group", "aria-label": "Photos by time; choose one bar, or drag over several" });
    this.first = make("span");
    this.last = make("span");
    this.told = make("p", { class: "soft" });
    this.chart = make("div", {}, this.bars, make("div", { class: "bar-ends", "aria-hidden": "true" }, this.first, this.last));
    this.element = make("div", { class: "timeline" }, this.chart, this.told);
    this.bars.addEventListener("pointerdown", (event) => this.begin(event));
    this.bars.addEventListener("pointerover", (event) => this.reach(event));
    addEventListener("pointerup", (event) => this.finish(event));
  }

  show(answers) {
    const dated = answers.filter(({ taken }) => /^\d{4}-\d\d/.test(taken ?? ""));
    this.chart.hidden = dated.length === 0;
    this.told.textContent = dated.length ? `${dated.length} of ${words.photos(answers.length)} with a date` : "No answer knows when it was taken.";
    if (!dated.length) return;
    this.steps = periods(dated.map(({ taken }) => taken));
    const inside = this.steps.map((step) => dated.filter(({ taken }) => belongs(taken, step)).length);
    const most = Math.max(...inside);
    replace(this.bars, this.steps.map((step, place) => this.bar(step, inside[place], most, place)));
    this.first.textContent = this.steps[0].label;
    this.last.textContent = this.steps.at(-1).label;
  }

  bar(step, photos, most, place) {
    const told = `${step.label}: ${words.photos(photos)}`;
    const bar = make("button",
      { type: "button", class: `bar ${photos ? "" : "none"}`, title: told, "aria-label": told, "data-place": place, disabled: photos === 0 && this.steps.length > 30, onclick: (event) => event.detail === 0 && this.onRange(step.from, step.to) },
      make("span", {}));
    bar.firstChild.style.height = photos ? `${12 + (88 * photos) / most}%` : "2px";
    return bar;
  }

  begin(event) {
    const bar = event.target.closest(".bar");
    if (!bar || event.button !== 0) return;
    bar.releasePointerCapture?.(event.pointerId);
    this.start = this.end = Number(bar.dataset.place);
    this.mark();
  }

  reach(event) {
    const bar = event.target.closest(".bar");
    if (this.start === null || !bar) return;
    this.end = Number(bar.dataset.place);
    this.mark();
  }

  finish() {
    if (this.start === null) return;
    const [first, last] = [Math.min(this.start, this.end), Math.max(this.start, this.end)];
    this.start = null;
    this.onRange(this.steps[first].from, this.steps[last].to);
  }

  mark() {
    const [first, last] = [Math.min(this.start, this.end), Math.max(this.start, this.end)];
    for (const bar of this.bars.children) bar.classList.toggle("marked", Number(bar.dataset.place) >= first && Number(bar.dataset.place) <= last);
  }
}

function periods(times) {
  const years = times.map((time) => Number(time.slice(0, 4)));
  const [first, last] = [Math.min(...years), Math.max(...years)];
  if (last - first < 3) return months(times);
  const span = Math.ceil((last - first + 1) / MOST_BARS);
  const steps = [];
  for (let year = first; year <= last; year += span) {
    const end = Math.min(year + span - 1, last);
    steps.push({ from: String(year), to: String(end), label: span === 1 || end === year ? String(year) : `${year}–${end}` });
  }
  return steps;
}

function months(times) {
  const marks = times.map((time) => Number(time.slice(0, 4)) * 12 + Number(time.slice(5, 7)) - 1);
  const [first, last] = [Math.min(...marks), Math.max(...marks)];
  return Array.from({ length: last - first + 1 }, (_, step) => {
    const text = `${Math.floor((first + step) / 12)}-${String(((first + step) % 12) + 1).padStart(2, "0")}`;
    return { from: text, to: text, label: text };
  });
}

function belongs(taken, { from, to }) {
  return taken.slice(0, from.length) >= from && taken.slice(0, to.length) <= to;
}
