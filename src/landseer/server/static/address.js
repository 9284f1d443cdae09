// The address bar holds the view: the same address shows the same answers.  An uploaded photo is the one thing it cannot
// hold; it lives in this tab.  A view is a plain object:
//   page       search | landmarks | landmark | countries | unlabelled
//   id, upload the query: a photo of the index, or the number of an upload (in the history, not in the address)
//   crop       [left, top, right, bottom], parts of the upright photo, or null
//   k, rerank, filters {landmarks, countries, from, to, area, where}, beside (the answer that is compared)
//   landmark, text, country  what the pages of the collection show

export const DEFAULT_K = 24;
export const SIZES = [24, 60, 120];
const PAGES = ["search", "landmarks", "landmark", "countries", "unlabelled"];

export function emptyFilters() {
  return { landmarks: [], countries: [], from: null, to: null, area: null, where: null };
}

export function newView(changes = {}) {
  return {
    page: "search", id: null, upload: null, crop: null, k: DEFAULT_K, rerank: true, filters: emptyFilters(), beside: null,
    landmark: null, text: "", country: null, ...changes,
  };
}

/** The view that an address names; what makes no sense in it is passed over. */
export function readAddress(search, upload = null) {
  const given = new URLSearchParams(search);
  const view = newView({ upload });
  if (PAGES.includes(given.get("page"))) view.page = given.get("page");
  view.id = given.get("id");
  view.crop = fractions(given.get("crop"));
  view.k = SIZES.includes(Number(given.get("k"))) ? Number(given.get("k")) : DEFAULT_K;
  view.rerank = given.get("rerank") !== "no";
  view.beside = given.get("beside");
  view.text = given.get("text") ?? "";
  const inCollection = view.page !== "search";
  if (inCollection) view.landmark = whole(given.get("landmark"));
  if (inCollection) view.country = given.get("country");
  else view.filters = readFilters(given);
  return view;
}

function readFilters(given) {
  return {
    landmarks: given.getAll("landmark").map(whole).filter((number) => number !== null),
    countries: given.getAll("country").filter((code) => /^[A-Z]{2}$/.test(code)),
    from: date(given.get("from")),
    to: date(given.get("to")),
    area: area(given.get("area")),
    where: given.get("where") || null,
  };
}

/** The address of *view*, without what is as usual. */
export function writeAddress(view) {
  const named = new URLSearchParams();
  if (view.page !== "search") named.set("page", view.page);
  if (view.id !== null) named.set("id", view.id);
  if (view.crop) named.set("crop", view.crop.map((part) => Number(part.toFixed(4))).join(","));
  if (view.k !== DEFAULT_K) named.set("k", view.k);
  if (!view.rerank) named.set("rerank", "no");
  for (const number of view.filters.landmarks) named.append("landmark", number);
  for (const code of view.filters.countries) named.append("country", code);
  for (const key of ["from", "to", "where"]) if (view.filters[key]) named.set(key, view.filters[key]);
  if (view.filters.area) named.set("area", view.filters.area.map((part) => Number(part.toFixed(4))).join(","));
  if (view.beside !== null) named.set("beside", view.beside);
  if (view.landmark !== null) named.set("landmark", view.landmark);
  if (view.country !== null) named.set("country", view.country);
  if (view.text) named.set("text", view.text);
  const text = named.toString();
  return text ? `/?${text}` : "/";
}

/** The filters as one expression of the index, or null where there is none. */
export function filterText({ landmarks, countries, from, to, area, where }) {
  const parts = [];
  if (landmarks.length) parts.push(`landmark in (${landmarks.join(", ")})`);
  if (countries.length) parts.push(`country in (${countries.map((code) => `'${code}'`).join(", ")})`);
  if (from) parts.push(`taken >= '${from}'`);
  if (to) parts.push(`taken <= '${to}'`);
  if (area) parts.push(`box(${area.map((part) => part.toFixed(4)).join(", ")})`);
  if (where) parts.push(parts.length ? `(${where})` : where);
  return parts.length ? parts.join(" and ") : null;
}

export function numFilters(filters) {
  return filters.landmarks.length + filters.countries.length + Boolean(filters.from || filters.to) + Boolean(filters.area) + Boolean(filters.where);
}

function whole(text) {
  return /^-?\d{1,18}$/.test(text ?? "") ? Number(text) : null;
}

function date(text) {
  return /^\d{4}(-\d\d(-\d\d)?)?$/.test(text ?? "") ? text : null;
}

function numbers(text, howMany) {
  const parts = (text ?? "").split(",").map(Number);
  return parts.length === howMany && text && parts.every(Number.isFinite) ? parts : null;
}

function fractions(text) {
  const box = numbers(text, 4);
  const within = box && box.every((part) => part >= 0 && part <= 1) && box[0] < box[2] && box[1] < box[3];
  return within ? box : null;
}

function area(text) {
  const box = numbers(text, 4);
  return box && Math.abs(box[0]) <= 90 && Math.abs(box[2]) <= 90 && box[0] < box[2] ? box : null;
}
