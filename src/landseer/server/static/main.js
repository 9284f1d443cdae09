// Where the page starts: one view at a time, taken from the address, changed by what people do.

import * as api from "./api.js";
import { BrowsePage } from "./browse.js";
import { askToken, onChange } from "./curate.js";
import { make, replace, toast, toggleTheme } from "./dom.js";
import { showStart } from "./home.js";
import { helpDialog, listenToKeys } from "./keys.js";
import { SearchPage } from "./search.js";
import { follow, leaveTo, onView, queryKey, state } from "./state.js";
import { choose, listen, onUploads, uploads } from "./uploads.js";
import * as words from "./words.js";

const part = (id) => document.getElementById(id);
const search = new SearchPage(part("search"));
const browse = new BrowsePage(part("browse"));
const help = helpDialog();

function atHome() {
  return state.view.page === "search" && queryKey(state.view) === null;
}

/** Which part of the page is seen; what is in it comes with show(). */
function arrange() {
  const { view } = state;
  const home = atHome();
  part("home").hidden = !home;
  part("search").hidden = view.page !== "search" || home;
  part("browse").hidden = view.page === "search";
  document.body.dataset.page = home ? "home" : view.page;
  for (const link of document.querySelectorAll("a[data-page]")) {
    const current = link.dataset.page === (view.page === "landmark" ? "landmarks" : view.page);
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = `${view.page} ${queryKey(view)} ${view.landmark}`;
  if (place !== arrange.place) scrollTo(0, 0);
  arrange.place = place;
}

function show() {
  arrange();
  const { view } = state;
  if (view.page !== "search") return browse.show();
  if (!atHome()) return search.show();
  document.title = "Landseer";
  return showStart(part("start"), state.index).catch((error) => toast(error.message, { wrong: true }));
}

/** An upload that is not in this tab any more, after a reload, leads home. */
function followHistory(kept) {
  const gone = kept?.upload !== null && kept?.upload !== undefined && !uploads[kept.upload];
  follow(gone ? null : kept);
  if (gone && queryKey(state.view) === null && state.view.page === "search") toast("That photo lived in this tab only. Drop it again to see its answers.");
}

function showIndex(index) {
  state.index = index;
  const told = `${index.name} · ${words.photos(index.photos)}`;
  part("collection").textContent = told;
  part("collection").title = `${told}, model ${index.model}, version ${index.version}${index.writable ? "" : ", read only"}`;
}

/** All photos that were dropped are answered one after the other, the one in view first. */
async function answerAll(taken) {
  leaveTo({ upload: taken[0].number });
  for (const upload of taken) await search.first(upload).catch(() => {});
}

function moreLikeFocused() {
  const grid = state.view.page === "search" ? search.grid : browse.grid;
  const item = grid?.focused();
  if (item) leaveTo({ id: item.id });
}

/** Links inside the page change the view without loading it anew. */
function followLinks(event) {
  const link = event.target.closest?.("a[data-follow], a[data-page], a[data-view]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  history.pushState({ upload: null }, "", link.getAttribute("href"));
  follow(null);
}

async function start() {
  followHistory(history.state);
  arrange();
  onView(() => state.index && show());
  onUploads({ change: () => search.row.show(), arrive: answerAll });
  onChange(() => {
    search.forget();
    browse.forget();
    show();
    api.index().then(showIndex);
  });
  api.onTokenNeeded(askToken);
  listen();
  addEventListener("popstate", (event) => followHistory(event.state));
  addEventListener("click", followLinks);
  for (const id of ["choose", "new-photo"]) part(id).addEventListener("click", choose);
  part("theme").addEventListener("click", toggleTheme);
  part("help").addEventListener("click", () => help.showModal());
  listenToKeys({
    "?": () => help.showModal(), o: choose, d: toggleTheme, m: moreLikeFocused,
    a: () => (state.view.page === "search" ? search.grid : browse.grid)?.focus(),
    c: () => !part("search").hidden && search.query.crop.begin(),
    f: () => !part("search").hidden && search.filters.open(search.filters.panel.hidden),
    s: () => !part("search").hidden && !search.select.hidden && search.grid.selecting(!search.grid.selected),
    "g l": () => leaveTo({ page: "landmarks" }), "g c": () => leaveTo({ page: "countries" }), "g u": () => leaveTo({ page: "unlabelled" }),
  });
  try {
    showIndex(await api.index());
    show();
  } catch (error) {
    replace(part("start"), make("p", { class: "wrong-text", role: "alert" }, error.message));
    part("home").hidden = false;
  }
}

start();
