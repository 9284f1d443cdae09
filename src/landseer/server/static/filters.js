// The filters as chips, and the panel in which they are set.  They hold inside the search: as many photos come back.

import * as api from "./api.js";
import { emptyFilters, numFilters } from "./address.js";
import { button, icon, make, replace } from "./dom.js";
import { go, learnName, nameOf, state } from "./state.js";
import * as words from "./words.js";

export class Filters {
  constructor() {
    this.chips = make("ul", { class: "chips", "aria-label": "Filters in force" });
    this.toggle = button("Filter", { icon: "filter", kind: "quiet", "aria-expanded": "false", "aria-controls": "filter-panel", onclick: () => this.open(this.panel.hidden) });
    this.panel = make("form", { class: "filter-panel", id: "filter-panel", "aria-label": "Filter the answers", hidden: true, onsubmit: (event) => this.submit(event) });
    this.error = make("p", { class: "wrong-text", role: "alert", hidden: true });
    this.build();
    this.element = make("div", { class: "filters" }, this.toggle, this.chips);
  }

  build() {
    this.names = make("datalist", { id: "landmark-names" });
    this.landmark = make("input", { type: "search", list: "landmark-names", placeholder: "Type a name", autocomplete: "off", oninput: () => this.suggest(), onchange: () => this.takeLandmark() });
    this.country = make("select", { onchange: () => this.takeCountry() }, make("option", { value: "" }, "Any"));
    this.from = make("input", { type: "date" });
    this.to = make("input", { type: "date" });
    this.where = make("input", { type: "text", placeholder: "landmark is null and path like '2019/%'", spellcheck: "false", autocapitalize: "off" });
    this.facets = make("div", { class: "facets" });
    this.columns = make("p", { class: "soft small" });
    replace(this.panel,
      make("label", {}, "Landmark", this.landmark), this.names,
      make("label", {}, "Country", this.country),
      make("label", {}, "Taken from", this.from), make("label", {}, "to", this.to),
      make("label", { class: "wide" }, "Any condition", this.where),
      make("div", { class: "row" }, button("Apply", { kind: "primary", type: "submit" }), button("Clear all", { kind: "quiet", onclick: () => change(emptyFilters()) })),
      this.facets, this.columns, this.error);
  }

  async open(yes) {
    this.panel.hidden = !yes;
    this.toggle.setAttribute("aria-expanded", String(yes));
    if (!yes) return;
    this.landmark.focus();
    this.columns.textContent = state.index?.columns?.length ? `A condition may name: ${state.index.columns.join(", ")}` : "";
    if (this.country.length === 1) {
      const found = await api.countries();
      this.country.append(...found.map(({ country, photos }) => make("option", { value: country }, `${words.country(country)} (${words.count(photos)})`)));
    }
  }

  show(filters, answers, error = null) {
    if (JSON.stringify(filters) !== this.shown) this.fill(filters);
    this.error.textContent = error ?? "";
    this.error.hidden = error === null;
    replace(this.chips, chipsOf(filters).map(([label, without]) => make("li", {},
      make("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${label}`, onclick: () => change(without) }, make("span", {}, label), icon("close")))));
    const number = numFilters(filters);
    this.toggle.querySelector("span").textContent = number ? `Filter (${number})` : "Filter";
    this.showFacets(filters, answers);
  }

  /** The fields as the filters have them; while these stay the same, what is being typed is left alone. */
  fill(filters) {
    this.shown = JSON.stringify(filters);
    this.from.value = whole(filters.from, false);
    this.to.value = whole(filters.to, true);
    this.where.value = filters.where ?? "";
  }

  /** What the answers have most of, to narrow down to with one click. */
  showFacets(filters, answers) {
    const landmarks = most(answers.filter(({ landmark }) => landmark !== null), ({ landmark }) => landmark).filter(([number]) => !filters.landmarks.includes(number));
    const countries = most(answers.filter(({ country }) => country), ({ country }) => country).filter(([code]) => !filters.countries.includes(code));
    const entry = (label, photos, then) => make("button", { type: "button", class: "chip offer", onclick: () => change(then) }, make("span", {}, label), make("span", { class: "soft" }, photos));
    replace(this.facets, (landmarks.length || countries.length) ? make("span", { class: "soft small" }, "Among these answers") : null,
      landmarks.map(([number, photos]) => entry(nameOf(number), photos, { ...filters, landmarks: [...filters.landmarks, number] })),
      countries.map(([code, photos]) => entry(words.country(code), photos, { ...filters, countries: [...filters.countries, code] })));
  }

  async suggest() {
    const text = this.landmark.value.trim();
    if (!text) return;
    const { landmarks } = await api.landmarks({ text, limit: 12 });
    this.found = landmarks;
    for (const { landmark, name } of landmarks) learnName(landmark, name);
    replace(this.names, landmarks.map(({ name, photos }) => make("option", { value: name }, words.photos(photos))));
    if (landmarks.some(({ name }) => name === this.landmark.value)) this.takeLandmark();
  }

  takeLandmark() {
    const wanted = this.landmark.value.trim().toLowerCase();
    const found = this.found?.find(({ name }) => (name ?? "").toLowerCase() === wanted);
    if (!found) return;
    this.landmark.value = "";
    const { filters } = state.view;
    if (!filters.landmarks.includes(found.landmark)) change({ ...filters, landmarks: [...filters.landmarks, found.landmark] });
  }

  takeCountry() {
    const { filters } = state.view;
    const code = this.country.value;
    this.country.value = "";
    if (code && !filters.countries.includes(code)) change({ ...filters, countries: [...filters.countries, code] });
  }

  submit(event) {
    event.preventDefault();
    this.takeLandmark();
    change({ ...state.view.filters, from: kept(this.from, state.view.filters.from, false), to: kept(this.to, state.view.filters.to, true), where: this.where.value.trim() || null });
  }
}

export function change(filters) {
  go({ filters, beside: null });
}

function chipsOf(filters) {
  const { landmarks, countries, from, to, area, where } = filters;
  const chips = landmarks.map((number) => [nameOf(number), { ...filters, landmarks: landmarks.filter((other) => other !== number) }]);
  chips.push(...countries.map((code) => [words.country(code), { ...filters, countries: countries.filter((other) => other !== code) }]));
  if (from || to) chips.push([from === to ? from : from && to ? `${from} to ${to}` : from ? `since ${from}` : `until ${to}`, { ...filters, from: null, to: null }]);
  if (area) chips.push(["an area of the map", { ...filters, area: null }]);
  if (where) chips.push([where, { ...filters, where: null }]);
  return chips;
}

function most(answers, key) {
  const sums = new Map();
  for (const answer of answers) sums.set(key(answer), (sums.get(key(answer)) ?? 0) + 1);
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, 4);
}

/** A year or month as the first or last day a date field needs. */
function whole(date, last) {
  if (!date || date.length === 10) return date ?? "";
  if (date.length === 4) return last ? `${date}-12-31` : `${date}-01-01`;
  const [year, month] = date.split("-").map(Number);
  return `${date}-${last ? new Date(Date.UTC(year, month, 0)).getUTCDate() : "01"}`;
}

/** What a date field says, as coarse as it was before if nobody changed it. */
function kept(field, before, last) {
  return field.value === whole(before, last) ? before : field.value || null;
}
