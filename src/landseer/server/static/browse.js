// The collection by landmark, by country, and what has no label yet.

import * as api from "./api.js";
import { Grid } from "./answers.js";
import { mayWrite, mergeInto, rename, selectionBar } from "./curate.js";
import { button, make, replace, say } from "./dom.js";
import { WorldMap } from "./map.js";
import { go, leaveTo, learnName, state } from "./state.js";
import * as words from "./words.js";

const PAGE = 60;

export class BrowsePage {
  constructor(host) {
    this.host = host;
    this.asked = 0;
  }

  async show() {
    this.asked += 1;
    const mine = this.asked;
    const pages = { landmarks: () => this.landmarks(), landmark: () => this.landmark(), countries: () => this.countries(), unlabelled: () => this.unlabelled() };
    const { page } = state.view;
    if (this.drawn !== page || page === "landmark") replace(this.host, make("p", { class: "eyebrow" }, "Loading…"), make("div", { class: "bone wide" }));
    try {
      const parts = await pages[page]();
      if (mine !== this.asked) return;
      this.drawn = page;
      if (parts) replace(this.host, parts);
      say(this.host.querySelector("h1")?.textContent ?? "");
      document.title = `${this.host.querySelector("h1")?.textContent ?? "Collection"} – Landseer`;
    } catch (error) {
      if (mine !== this.asked) return;
      this.drawn = null;
      replace(this.host, make("h1", {}, "That did not work"), make("p", { class: "wrong-text", role: "alert" }, error.message), button("Try again", { onclick: () => this.show() }));
    }
  }

  /** Cards of landmarks; the fields stay while the list changes under them. */
  async landmarks() {
    const { text, country } = state.view;
    const [found, countries] = await Promise.all([api.landmarks({ text, country, limit: PAGE }), this.allCountries()]);
    const title = make("p", { class: "soft", role: "status" }, `${words.count(found.total)} ${found.total === 1 ? "landmark" : "landmarks"}`);
    const list = make("ul", { class: "cards" });
    const more = this.pager(found, (after) => api.landmarks({ text, country, after, limit: PAGE }), (next) => list.append(...next.landmarks.map(landmarkCard)));
    list.append(...found.landmarks.map(landmarkCard));
    const none = found.total === 0 && make("p", { class: "empty" }, text || country ? "No landmark is called that." : "This collection has no labels yet. Search with one of its photos and name what you see.");
    if (this.drawn === "landmarks" && this.list?.isConnected) {
      this.count.replaceWith(title);
      replace(this.list, none || null, list, more);
      this.count = title;
      return null;
    }
    const field = make("input", { type: "search", placeholder: "Find by name", "aria-label": "Find a landmark by name", autocomplete: "off" });
    field.value = text;
    let timer = null;
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => go({ text: field.value.trim() }, { replace: true }), 180);
    });
    const select = make("select", { "aria-label": "Country", onchange: () => go({ country: select.value || null }) },
      make("option", { value: "" }, "All countries"), countries.map(({ country: code }) => make("option", { value: code }, words.country(code))));
    select.value = country ?? "";
    this.count = title;
    this.list = make("div", {}, none || null, list, more);
    return [make("div", { class: "browse-head" }, make("div", {}, make("h1", {}, "Landmarks"), title), make("div", { class: "row" }, field, select)), this.list];
  }

  async landmark() {
    const { landmark } = state.view;
    const found = await api.photos({ landmark, limit: PAGE });
    const first = found.photos[0];
    const name = words.landmark(landmark, first?.landmark_name);
    learnName(landmark, first?.landmark_name);
    const { parts, select } = this.photoGrid(found, (after) => api.photos({ landmark, after, limit: PAGE }), `Photos of ${name}`);
    const tools = mayWrite() && found.total > 0 && make("div", { class: "row" },
      button(first?.landmark_name ? "Rename…" : "Name this group…", { icon: "edit", kind: first?.landmark_name ? "quiet" : "primary", onclick: () => rename(landmark, first?.landmark_name ?? null) }),
      button("Merge with another…", { icon: "more", kind: "quiet", onclick: () => mergeInto(landmark, name) }), select);
    const about = [words.country(first?.country), words.photos(found.total)].filter(Boolean).join(" · ");
    return [make("div", { class: "browse-head" }, make("div", {}, make("p", { class: "eyebrow" }, make("a", { href: "/?page=landmarks", "data-follow": true }, "Landmarks")), make("h1", {}, name), make("p", { class: "soft" }, about)), tools || null),
      found.total === 0 ? make("p", { class: "empty" }, "No photo has this label any more.") : null, ...parts];
  }

  async unlabelled() {
    const found = await api.photos({ labelled: false, limit: PAGE });
    const { parts, select } = this.photoGrid(found, (after) => api.photos({ labelled: false, after, limit: PAGE }), "Photos without a label");
    return [make("div", { class: "browse-head" }, make("div", {}, make("h1", {}, "Photos without a label"), make("p", { class: "soft" }, found.total ? `${words.photos(found.total)}. Open one to see what it looks like; choose several to name them together.` : "Every photo has a label.")),
      mayWrite() && found.total > 0 ? make("div", { class: "row" }, select) : null), ...parts];
  }

  /** A grid of photos with its selection bar and its "more" button. */
  photoGrid(found, next, label) {
    const bar = make("div", { class: "selection-place" });
    const grid = new Grid({
      label, named: false, onOpen: ({ id }) => leaveTo({ id }), onMore: ({ id }) => leaveTo({ id }),
      onSelect: (ids) => {
        select.setAttribute("aria-pressed", String(ids !== null));
        replace(bar, ids && selectionBar(ids, { done: () => grid.selecting(false) }));
      },
    });
    const select = button("Select", { icon: "select", kind: "quiet", "aria-pressed": "false", onclick: () => grid.selecting(!grid.selected) });
    grid.show(found.photos);
    this.grid = grid;
    return { parts: [bar, grid.element, this.pager(found, next, (page) => grid.show([...grid.items, ...page.photos]))], select };
  }

  async countries() {
    const countries = await this.allCountries();
    const all = countries.reduce((sum, { photos }) => sum + photos, 0);
    const most = Math.max(...countries.map(({ photos }) => photos), 1);
    this.map ??= new WorldMap({ label: "World map of the collection", onPick: () => {}, onCountry: (country) => leaveTo({ page: "landmarks", country }) });
    const list = make("ol", { class: "country-list" }, countries.map(({ country, photos, landmarks }) => {
      const bar = make("span", { class: "vote-bar" }, make("span", {}));
      bar.firstChild.style.width = `${(100 * photos) / most}%`;
      const told = [words.photos(photos), landmarks && `${words.count(landmarks)} ${landmarks === 1 ? "landmark" : "landmarks"}`].filter(Boolean).join(" · ");
      return make("li", {}, make("a", { href: `/?page=landmarks&country=${encodeURIComponent(country)}`, "data-follow": true }, make("span", { class: "country-name" }, words.country(country)), make("span", { class: "soft" }, told), bar));
    }));
    const shades = new Map(countries.map(({ country, photos }) => [country, { share: photos / most, label: words.photos(photos) }]));
    this.map.ready.then(() => this.map.show([], shades, all ? "Darker countries hold more photos." : "No photo knows its country."));
    return [make("div", { class: "browse-head" }, make("div", {}, make("h1", {}, "Countries"), make("p", { class: "soft" }, `${words.photos(all)} in ${words.count(countries.length)} ${countries.length === 1 ? "country" : "countries"}`))),
      make("div", { class: "countries" }, this.map.element, list)];
  }

  allCountries() {
    this.countriesKnown ??= api.countries();
    this.countriesKnown.catch(() => { this.countriesKnown = null; });
    return this.countriesKnown;
  }

  pager(found, ask, then) {
    let after = found.next;
    const more = button("Show more", { kind: "quiet more", onclick: async () => {
      more.disabled = true;
      const page = await ask(after);
      after = page.next;
      then(page);
      more.disabled = false;
      more.hidden = !after;
    } });
    more.hidden = !after;
    return more;
  }

  /** Labels have changed. */
  forget() {
    this.countriesKnown = null;
  }
}

function landmarkCard({ landmark, name, photos, country, cover }) {
  learnName(landmark, name);
  return make("li", { class: "card" }, make("a", { href: `/?page=landmark&landmark=${landmark}`, "data-follow": true },
    cover ? make("img", { src: api.thumbnail(cover, 400), alt: "", loading: "lazy", decoding: "async" }) : make("div", { class: "no-cover" }),
    make("span", { class: `card-name ${name ? "" : "none"}` }, words.landmark(landmark, name)),
    make("span", { class: "soft" }, [words.country(country), words.photos(photos)].filter(Boolean).join(" · "))));
}
