// The page that answers: the query, the verdict, the places and times, and the photos.

import * as api from "./api.js";
import { SIZES, emptyFilters, filterText, numFilters } from "./address.js";
import { Grid } from "./answers.js";
import { Compare } from "./compare.js";
import { labelButtons, mayWrite, queryCuration, selectionBar } from "./curate.js";
import { button, iconButton, make, replace, say, toast } from "./dom.js";
import { Filters, change } from "./filters.js";
import { WorldMap, whereabouts } from "./map.js";
import { QueryPanel, UploadRow } from "./query.js";
import { saveCsv, saveJson } from "./save.js";
import { go, leaveTo, learnName, queryKey, state } from "./state.js";
import { Timeline } from "./timeline.js";
import { update, uploads } from "./uploads.js";
import { Verdict } from "./verdict.js";
import * as words from "./words.js";

export class SearchPage {
  constructor(host) {
    this.known = new Map();
    this.shown = null;
    this.row = new UploadRow();
    this.query = new QueryPanel();
    this.verdict = new Verdict(queryCuration);
    this.grid = new Grid({ label: "The answers, best first", onOpen: ({ id }) => go({ beside: id }), onMore: ({ id }) => leaveTo({ id }), onSelect: (ids) => this.selection(ids) });
    this.filters = new Filters();
    this.compare = new Compare((item) => labelButtons(item, this.guess()));
    this.map = new WorldMap({
      label: "World map of the answers",
      onPick: (points) => this.pickPlace(points),
      onPoint: (points) => this.grid.highlight(new Set(points.flatMap(({ ids }) => ids))),
      onCountry: (code) => change({ ...state.view.filters, countries: [code] }),
    });
    this.times = new Timeline((from, to) => change({ ...state.view.filters, from, to }));
    this.title = make("h2", { class: "answers-title" });
    this.empty = make("div", { class: "empty", hidden: true });
    this.bar = make("div", { class: "selection-place" });
    const where = make("section", { class: "where-when", "aria-label": "Where and when" }, this.map.element, this.times.element);
    replace(host, this.row.element, make("div", { class: "head" }, this.query.element, this.verdict.element, where),
      make("section", { class: "answers", "aria-labelledby": "answers-title" }, this.toolbar(), this.filters.panel, this.bar, this.empty, this.grid.element));
    this.title.id = "answers-title";
    document.getElementById("dialogs").append(this.compare.element);
  }

  toolbar() {
    this.size = make("select", { "aria-label": "How many answers", onchange: () => go({ k: Number(this.size.value) }, { replace: true }) }, SIZES.map((k) => make("option", { value: k }, `${k} photos`)));
    this.rerank = make("input", { type: "checkbox", onchange: () => go({ rerank: this.rerank.checked }) });
    this.rerankLabel = make("label", { class: "check", title: "Let the index's re-rankers order the answers anew" }, this.rerank, "Re-rank");
    this.select = iconButton("Select photos", "select", { onclick: () => this.grid.selecting(!this.grid.selected) });
    const link = iconButton("Copy the address of this view", "link", { onclick: () => this.copyAddress() });
    this.saves = make("div", { class: "saves" },
      button("CSV", { icon: "save", kind: "quiet", "aria-label": "Save the answers as CSV", onclick: () => saveCsv(state.answer) }),
      button("JSON", { icon: "save", kind: "quiet", "aria-label": "Save the answers as JSON", onclick: () => saveJson(state.answer, state.view) }));
    return make("div", { class: "toolbar" }, this.title, this.filters.element, make("div", { class: "toolbar-end" }, this.rerankLabel, this.size, this.select, link, this.saves));
  }

  /** Show the state's view: from what is known already, or by asking. */
  async show() {
    const { view } = state;
    const answerKey = JSON.stringify([queryKey(view), view.crop, view.k, view.rerank, view.filters]);
    this.size.value = String(view.k);
    this.rerank.checked = view.rerank;
    this.rerankLabel.hidden = !state.index?.reranking;
    this.select.hidden = !mayWrite();
    this.row.show();
    if (this.shown === answerKey && state.answer) return this.compare.show();
    if (this.queryShown !== queryKey(view)) this.newQuery();
    this.query.show(view, this.queryAnswer);
    this.filters.show(view.filters, state.answer?.answers ?? []);
    this.request?.abort();
    if (this.known.has(answerKey)) return this.answered(this.known.get(answerKey), answerKey);
    return this.ask(answerKey);
  }

  newQuery() {
    this.queryShown = queryKey(state.view);
    this.queryAnswer = null;
    state.answer = null;
    this.grid.clear();
    if (this.grid.selected) this.grid.selecting(false);
  }

  async ask(answerKey) {
    const { view } = state;
    this.shown = null;
    this.request = new AbortController();
    const { signal } = this.request;
    this.empty.hidden = true;
    this.grid.waiting();
    if (!state.answer) this.verdict.waiting();
    this.title.textContent = "Looking…";
    try {
      const answer = await this.fetch(view, signal);
      this.known.set(answerKey, answer);
      if (!signal.aborted) this.answered(answer, answerKey);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) this.failed(error);
    }
  }

  /** An upload that is under way for this very question is waited for, not sent twice. */
  fetch(view, signal) {
    const options = { k: view.k, filter: filterText(view.filters), crop: view.crop, rerank: state.index?.reranking ? view.rerank : null };
    if (view.upload === null) return api.similar(view.id, options, signal);
    const plain = !options.filter && !options.crop && view.rerank && view.k === SIZES[0];
    return plain ? this.first(uploads[view.upload]) : api.search(uploads[view.upload].file, options, { signal });
  }

  /** The first answer to an upload, asked for once. */
  first(upload) {
    upload.first ??= this.send(upload);
    return upload.first;
  }

  async send(upload) {
    update(upload, { state: "sending", error: null });
    try {
      const answer = await api.search(upload.file, { k: SIZES[0], rerank: state.index?.reranking || null }, { onProgress: (progress) => update(upload, { progress }) });
      const { recognition } = answer;
      const verdict = recognition?.known ? words.landmark(recognition.landmark, recognition.name) : recognition ? "not known" : "no name yet";
      update(upload, { state: "answered", progress: 1, verdict });
      return answer;
    } catch (error) {
      upload.first = null;
      update(upload, { state: "failed", progress: 1, error: error.message });
      throw error;
    }
  }

  answered(answer, answerKey) {
    state.answer = answer;
    this.queryAnswer = answer;
    this.shown = answerKey;
    for (const { landmark, landmark_name: name } of answer.answers) learnName(landmark, name);
    for (const { landmark, name } of answer.recognition?.votes ?? []) learnName(landmark, name);
    this.query.show(state.view, answer);
    this.verdict.show(answer);
    const { points, shades, told } = whereabouts(answer.answers);
    this.map.show(points, shades, told);
    this.times.show(answer.answers);
    this.filters.show(state.view.filters, answer.answers);
    this.grid.show(answer.answers, { voted: answer.recognition?.known ? answer.recognition.landmark : null });
    this.title.textContent = answer.answers.length ? `${words.photos(answer.answers.length)} most like it` : "No photos";
    this.showEmpty(answer.answers.length === 0);
    say(`${this.verdict.element.querySelector("h1").textContent}. ${this.title.textContent}.`);
    document.title = `${this.verdict.element.querySelector("h1").textContent} – Landseer`;
    this.compare.show();
  }

  showEmpty(yes) {
    this.empty.hidden = !yes;
    if (!yes) return;
    const filtered = numFilters(state.view.filters) > 0;
    replace(this.empty, make("p", {}, filtered ? "No photo passes these filters." : "This index holds no photos yet."), filtered ? button("Clear all filters", { onclick: () => change(emptyFilters()) }) : null);
  }

  failed(error) {
    this.grid.element.classList.remove("stale");
    this.title.textContent = "No answers";
    const wrongFilter = error.message.startsWith("filter");
    if (wrongFilter && state.answer) {
      this.filters.open(true);
      this.filters.show(state.view.filters, state.answer.answers, error.message);
      return;
    }
    this.grid.clear();
    this.map.show([], new Map(), "");
    this.times.show([]);
    this.verdict.failed(error.message, () => this.show());
  }

  guess() {
    const recognition = state.answer?.recognition;
    return recognition?.known ? { landmark: recognition.landmark, name: words.landmark(recognition.landmark, recognition.name) } : null;
  }

  selection(ids) {
    this.select.setAttribute("aria-pressed", String(ids !== null));
    replace(this.bar, ids && selectionBar(ids, { guess: this.guess(), done: () => this.grid.selecting(false) }));
  }

  pickPlace(points) {
    const landmarks = new Set(points.map(({ landmark }) => landmark));
    const { filters } = state.view;
    if (landmarks.size === 1 && !landmarks.has(null)) change({ ...filters, landmarks: [...landmarks] });
    else change({ ...filters, area: around(points) });
  }

  async copyAddress() {
    if (state.view.id === null) return toast("An uploaded photo lives in this tab only; keep it in the collection to get an address for it.");
    await navigator.clipboard.writeText(location.href);
    return toast("The address of this view is copied.");
  }

  /** Labels have changed: nothing that was answered before holds. */
  forget() {
    this.known.clear();
    this.shown = null;
    for (const upload of uploads) upload.first = null;
  }
}

/** A box a little larger than the points, as [south, west, north, east]. */
function around(points) {
  const lats = points.map(({ latitude }) => latitude);
  const lons = points.map(({ longitude }) => longitude);
  const rim = 0.05;
  return [Math.max(-90, Math.min(...lats) - rim), Math.max(-180, Math.min(...lons) - rim), Math.min(90, Math.max(...lats) + rim), Math.min(180, Math.max(...lons) + rim)];
}
