// The run explorer: the list of queries, and one query.  What is shown is in the address.

import * as api from "./api.js";
import { askToken } from "./curate.js";
import { button, iconButton, make, replace, say, toast, toggleTheme } from "./dom.js";
import { listenToKeys } from "./keys.js";
import * as words from "./words.js";

const ORDERS = { ap: "lowest AP first", "-ap": "highest AP first", landmark: "landmark", change: "lost most first", "-change": "gained most first" };
const VERDICTS = { right: "right", wrong: "wrong", junk: "does not count" };
const KEYS = [
  ["↓ ↑", "next and previous query (also j, k)"], ["Enter", "open the query"], ["← →", "previous and next query, or photo when one is open"], ["Esc", "back to the list"],
  ["f", "failed queries only, or all"], ["d", "light or dark"], ["?", "this help"],
];
const CONFUSED_AT_FIRST = 14;
const part = (id) => document.getElementById(id);

/** `run`: what /api/run says; `list`: the queries that are loaded; `next`: where to go on. */
const state = { run: null, view: null, list: [], next: null, total: 0, listed: null, top: 0 };

// --- the address -------------------------------------------------------------------------------------------

function read() {
  const given = new URLSearchParams(location.search);
  const landmark = given.get("landmark");
  return {
    sort: ORDERS[given.get("sort")] ? given.get("sort") : "ap",
    landmark: landmark !== null && /^-?\d{1,18}$/.test(landmark) ? Number(landmark) : null,
    tag: given.get("tag") || null,
    query: given.get("query") || null,
  };
}

function addressOf(view) {
  const said = Object.entries(view).filter(([name, value]) => value !== null && !(name === "sort" && value === "ap"));
  return said.length ? `/run?${new URLSearchParams(said)}` : "/run";
}

function go(changes) {
  if (state.view.query === null) state.top = scrollY;
  state.view = { ...state.view, ...changes };
  history.pushState(null, "", addressOf(state.view));
  show();
}

// --- parts -------------------------------------------------------------------------------------------------

const figure = (value) => (value === null ? "–" : value.toFixed(3));
const signed = (value) => `${Math.abs(value) < 0.0005 ? "±" : value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
const nameOf = (query) => query.landmark_name ?? "Several landmarks, or none";
const ruleOf = (tag) => state.run.tags.find((one) => one.tag === tag) ?? { name: tag, rule: "" };

function picture(id, side, alt) {
  const image = make("img", { src: api.runThumbnail(id, side), alt, loading: "lazy", decoding: "async" });
  const frame = make("span", { class: "photo" }, image);
  image.addEventListener("error", () => replace(frame, make("span", { class: "lost" }, "cannot be read")));
  return frame;
}

const sign = (verdict) => make("span", { class: `sign ${verdict}`, "aria-hidden": "true" });

function told(answer) {
  return `${answer.rank}: ${VERDICTS[answer.verdict]}, ${answer.landmark_name ?? "no label"}, cosine ${answer.cosine.toFixed(3)}`;
}

function answerThumb(answer) {
  return make("li", { class: `answer ${answer.verdict}`, title: told(answer) }, picture(answer.id, 160, told(answer)), sign(answer.verdict));
}

function strip(name, ap, answers) {
  const list = answers.length ? make("ol", { class: "strip" }, answers.map(answerThumb)) : make("p", { class: "none" }, "No answers.");
  return make("div", {}, name && make("p", { class: "strip-name" }, `${name}${ap === null ? "" : ` · AP ${figure(ap)}`}`), list);
}

function changeTold(query) {
  if (query.change === null) return null;
  const kind = Math.abs(query.change) < 0.0005 ? "" : query.change > 0 ? "up" : "down";
  return make("span", { class: `change ${kind}`, title: `${figure(query.other_ap)} by ${state.run.other}` }, signed(query.change));
}

function tagsTold(query) {
  return query.tags.length ? make("p", { class: "tag-row" }, query.tags.map((tag) => make("span", { class: "tag", title: ruleOf(tag).rule }, ruleOf(tag).name))) : null;
}

function meter(value) {
  const bar = make("span");
  bar.style.width = `${(value ?? 0) * 100}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, bar);
}

function trainedTold(query) {
  if (query.trained === null) return "not known whether trained on";
  return query.trained ? "landmark trained on" : "landmark not trained on";
}

function rankTold(rank) {
  return rank === null ? "no right answer in the first 50" : `first right answer at ${rank}`;
}

// --- the list ----------------------------------------------------------------------------------------------

function entry(query) {
  const name = nameOf(query);
  const href = addressOf({ ...state.view, query: query.id });
  const open = make("a", { class: "open", href, "data-query": query.id, "aria-label": `${name}, average precision ${figure(query.ap)}` }, picture(query.id, 224, ""));
  const other = query.other_answers;
  return make("li", { class: "entry" }, open,
    make("div", { class: "about" },
      make("h2", {}, name),
      make("p", { class: "ap" }, make("span", { class: "soft" }, "AP"), make("b", {}, figure(query.ap)), changeTold(query)),
      meter(query.ap),
      make("p", { class: "small soft" }, trainedTold(query)),
      make("p", { class: "small soft" }, rankTold(query.first_right)),
      tagsTold(query)),
    make("div", { class: "strips" },
      strip(other && state.run.name, query.ap, query.answers),
      other && strip(state.run.other, query.other_ap, other)));
}

async function list({ more = false } = {}) {
  const { sort, landmark, tag } = state.view;
  const asked = JSON.stringify([sort, landmark, tag]);
  if (!more && state.listed === asked) return;
  const [found, run] = await Promise.all([
    api.runQueries({ sort, landmark, tag, after: more ? state.next : null, limit: 20 }),
    more ? state.run : api.run({ landmark }),
  ]);
  if (asked !== JSON.stringify([state.view.sort, state.view.landmark, state.view.tag])) return; // the view went on
  if (!more) {
    Object.assign(state, { list: [], listed: asked, run, top: 0 });
    part("queries").replaceChildren();
    showFilters();
  }
  state.list.push(...found.queries);
  Object.assign(state, { next: found.next, total: found.total });
  part("queries").append(...found.queries.map(entry));
  part("more").hidden = found.next === null;
  part("count").textContent = found.total === 0 ? "No query has this." : `${words.count(state.list.length)} of ${words.count(found.total)} ${found.total === 1 ? "query" : "queries"}`;
}

function showFilters() {
  const { run, view } = state;
  replace(part("tags"), run.tags.map(({ tag, name, rule, queries }) =>
    make("button", { type: "button", class: "chip offer", title: rule, "aria-pressed": String(view.tag === tag), disabled: queries === 0 && view.tag !== tag, "data-tag": tag, onclick: () => go({ tag: view.tag === tag ? null : tag }) },
      make("span", {}, name), make("b", {}, words.count(queries)))));
  replace(part("landmark"), view.landmark !== null && make("button", { type: "button", class: "chip", "aria-label": `All landmarks, not only ${run.landmark_name}`, onclick: () => go({ landmark: null }) },
    make("span", {}, run.landmark_name), make("span", { "aria-hidden": "true" }, "×")));
  const orders = Object.entries(ORDERS).filter(([sort]) => run.other !== null || !sort.endsWith("change"));
  replace(part("sort"), orders.map(([sort, words]) => make("option", { value: sort, selected: view.sort === sort }, words)));
  showConfusions(false);
}

function showConfusions(all) {
  const { confusions } = state.run;
  const shown = all ? confusions : confusions.slice(0, CONFUSED_AT_FIRST);
  replace(document.querySelector("#confusions tbody"), shown.map((row) => make("tr", {},
    make("td", {}, make("a", { href: addressOf({ ...state.view, query: null, landmark: row.landmark }), "data-landmark": row.landmark, "aria-current": state.view.landmark === row.landmark ? "true" : null }, row.name)),
    make("td", {}, row.taken_for_name),
    make("td", { title: `in the first five answers to ${words.count(row.queries)} queries` }, `${words.count(row.answers)} of ${words.count(row.queries * 5)}`))));
  part("confused").hidden = !confusions.length;
  const rest = part("all-confusions");
  rest.hidden = all || shown.length === confusions.length;
  rest.textContent = `All ${words.count(confusions.length)}`;
}

function showRun() {
  const { run } = state;
  part("pages").hidden = !run.index;
  part("collection").textContent = `${words.count(run.queries)} queries in ${words.photos(run.photos)}`;
  part("eyebrow").textContent = run.other === null ? `Run ${run.name}` : `Run ${run.name}, beside ${run.other}`;
  part("title").textContent = run.title;
  replace(part("told"), `${words.count(run.failed)} of ${words.count(run.queries)} queries failed: their first answer is wrong.`, differenceTold(run),
    run.reranking.length > 0 && ` Answers are re-ranked (${run.reranking.join(", ")}).`);
  replace(part("warnings"), run.warnings.map((line) => make("p", { class: "warning" }, line)));
  replace(part("figures"), [["mean AP", figure(run.mean_ap)], ...(run.other === null ? [] : [[run.other, figure(run.other_mean_ap)], ["difference", signed(run.difference.value)]])]
    .map(([what, value]) => make("div", {}, make("dt", {}, what), make("dd", {}, value))));
}

function differenceTold({ other, difference }) {
  if (difference === null) return null;
  const p = difference.p < 0.001 ? "p\u00a0<\u00a00.001" : `p\u00a0=\u00a0${difference.p.toFixed(3)}`;
  return ` Mean AP is ${signed(difference.value)} beside ${other} (95\u00a0%: ${signed(difference.low)} to ${signed(difference.high)}, ${p}, ${words.count(difference.queries)} queries in pairs).`;
}

// --- one query ---------------------------------------------------------------------------------------------

function neighbour(step) {
  const at = state.list.findIndex((query) => query.id === state.view.query);
  return at < 0 ? null : state.list[at + step] ?? null;
}

async function toNeighbour(step) {
  if (state.view.query === null) return;
  if (step > 0 && neighbour(1) === null && state.next !== null) await list({ more: true });
  const next = neighbour(step);
  if (next) go({ query: next.id });
}

function way() {
  const at = state.list.findIndex((query) => query.id === state.view.query);
  return make("div", { class: "way" },
    button("All queries", { icon: "left", kind: "quiet", id: "back", onclick: () => go({ query: null }) }),
    at >= 0 && make("div", { class: "row" }, make("span", { class: "small soft" }, `${words.count(at + 1)} of ${words.count(state.total)}`),
      iconButton("Previous query", "left", { onclick: () => toNeighbour(-1), disabled: at === 0 }),
      iconButton("Next query", "right", { onclick: () => toNeighbour(1), disabled: at + 1 === state.total })));
}

function wall(query, name, ap, rank, answers) {
  const facts = [name, ap === null ? null : `AP ${figure(ap)}`, rankTold(rank)].filter(Boolean).join(" · ");
  return make("section", { class: "side" }, make("h2", {}, facts),
    answers.length ? make("ol", { class: "wall" }, answers.map((answer, at) => make("li", { class: `answer ${answer.verdict}` },
      make("button", { type: "button", title: answer.why, onclick: () => look(query, answers, at) }, picture(answer.id, 224, ""),
        make("span", { class: "caption" }, make("b", {}, `${answer.rank}`), make("span", { class: "unseen" }, ` ${VERDICTS[answer.verdict]},`), ` ${answer.landmark_name ?? "no label"}`, make("br"),
          make("span", { class: "soft" }, `cosine ${answer.cosine.toFixed(3)}`), answer.why && make("span", { class: "soft why-moved" }, answer.why))),
      sign(answer.verdict)))) : make("p", { class: "none" }, "No answers."));
}

function showQuery(query) {
  const facts = [
    ["average precision", figure(query.ap)],
    state.run.other && [state.run.other, query.other_ap === null ? "–" : `${figure(query.other_ap)} (${signed(query.change)})`],
    ["right photos", words.count(query.num_right)],
    ["nearest of them", query.nearest_right === null ? "none in the gallery" : `cosine ${query.nearest_right.toFixed(3)}`],
    ["training", trainedTold(query)],
    ["photo", query.id],
  ].filter(Boolean);
  const other = query.other_answers;
  replace(part("query"), way(),
    make("div", { class: "asked" }, make("figure", {}, make("img", { src: api.runThumbnail(query.id, 640), alt: "The query" })),
      make("div", { class: "about" },
        make("h1", { id: "query-title" }, nameOf(query)),
        query.landmark !== null && make("p", {}, make("a", { href: addressOf({ ...state.view, query: null, landmark: query.landmark, tag: null }), "data-landmark": query.landmark }, "all queries of this landmark")),
        make("dl", { class: "facts" }, facts.flatMap(([what, value]) => [make("dt", {}, what), make("dd", {}, value)])),
        query.tags.length > 0 && make("ul", { class: "reasons" }, query.tags.map((tag) => make("li", {}, make("b", {}, ruleOf(tag).name), `: ${ruleOf(tag).rule}`))))),
    make("div", { class: other ? "sides two" : "sides" },
      wall(query, other ? state.run.name : null, query.ap, query.first_right, query.answers),
      other && wall(query, state.run.other, query.other_ap, query.other_first_right, other)));
  document.title = `${nameOf(query)} – Landseer`;
  say(`${nameOf(query)}, average precision ${figure(query.ap)}`);
}

/** Query and answer beside each other, large; arrows go to the next answer. */
function look(query, answers, start) {
  let at = start;
  const back = document.activeElement;
  const body = make("div", { class: "pair" });
  const head = make("h2", { id: "look-title" });
  const dialog = make("dialog", { class: "look", "aria-labelledby": "look-title" },
    make("header", {}, head, make("div", { class: "row" },
      iconButton("Previous answer", "left", { onclick: () => step(-1) }), iconButton("Next answer", "right", { onclick: () => step(1) }), iconButton("Close", "close", { onclick: () => dialog.close() }))), body);
  function step(by) {
    at = Math.min(answers.length - 1, Math.max(0, at + by));
    const answer = answers[at];
    head.textContent = `Answer ${answer.rank}: ${VERDICTS[answer.verdict]}`;
    replace(body,
      make("figure", {}, make("img", { src: api.runThumbnail(query.id, 960), alt: "The query" }), make("figcaption", {}, make("b", {}, nameOf(query)), " (the query)")),
      make("figure", {}, make("img", { src: api.runThumbnail(answer.id, 960), alt: `Answer ${answer.rank}` }),
        make("figcaption", {}, make("b", {}, answer.landmark_name ?? "no label"), ` · cosine ${answer.cosine.toFixed(3)}${answer.why ? ` · ${answer.why}` : ""} · ${answer.id}`)));
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => { dialog.remove(); back?.focus(); });
  part("dialogs").append(dialog);
  step(0);
  dialog.showModal();
}

// --- the page ----------------------------------------------------------------------------------------------

async function show() {
  const { query } = state.view;
  try {
    await list();
    const found = query === null ? null : await api.runQuery(query);
    if (query !== state.view.query) return;
    part("overview").hidden = query !== null;
    part("query").hidden = query === null;
    showRun();
    if (found) {
      showQuery(found);
      scrollTo(0, 0);
    } else {
      document.title = `${state.run.title} – Landseer`;
      scrollTo(0, state.top);
    }
  } catch (error) {
    if (!state.run) part("title").textContent = error.message;
    else toast(error.message, { wrong: true });
  }
}

/** The focus goes to the next query of the list, or the one before. */
function walk(step) {
  if (state.view.query !== null) return;
  const links = [...document.querySelectorAll(".entry > .open")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))];
  next?.focus();
  next?.closest(".entry").scrollIntoView({ block: "nearest" });
}

/** Links inside the page change the view without loading it anew. */
function followLinks(event) {
  const link = event.target.closest?.("a[data-query], a[data-landmark]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  if (link.dataset.query !== undefined) go({ query: link.dataset.query });
  else go({ query: null, landmark: Number(link.dataset.landmark), tag: link.closest("#query") ? null : state.view.tag });
}

function help() {
  const dialog = make("dialog", { class: "ask help", "aria-labelledby": "help-title" },
    make("header", {}, make("h2", { id: "help-title" }, "Keys, and why queries fail"), iconButton("Close", "close", { onclick: () => dialog.close() })),
    make("dl", { class: "keys" }, KEYS.map(([key, what]) => make("div", {}, make("dt", {}, key.split(" ").map((one) => make("kbd", {}, one))), make("dd", {}, what)))),
    make("dl", {}, state.run?.tags.flatMap(({ name, rule }) => [make("dt", {}, make("b", {}, name)), make("dd", { class: "soft small" }, rule)]) ?? []));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  part("dialogs").append(dialog);
  dialog.showModal();
}

function start() {
  state.view = read();
  api.onTokenNeeded(askToken);
  addEventListener("popstate", () => { state.view = read(); show(); });
  addEventListener("click", followLinks);
  part("theme").addEventListener("click", toggleTheme);
  part("help").addEventListener("click", help);
  part("more").addEventListener("click", () => list({ more: true }).catch((error) => toast(error.message, { wrong: true })));
  part("sort").addEventListener("change", () => go({ sort: part("sort").value }));
  part("all-confusions").addEventListener("click", () => showConfusions(true));
  listenToKeys({
    "?": help, d: toggleTheme, j: () => walk(1), k: () => walk(-1), ArrowDown: () => walk(1), ArrowUp: () => walk(-1),
    ArrowLeft: () => toNeighbour(-1), ArrowRight: () => toNeighbour(1),
    Escape: () => state.view.query !== null && go({ query: null }),
    f: () => state.view.query === null && go({ tag: state.view.tag ? null : "failed" }),
  });
  history.scrollRestoration = "manual";
  show();
}

start();
