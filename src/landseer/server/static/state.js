// What the page shows now, and the one way to change it.

import { newView, readAddress, writeAddress } from "./address.js";

/** `index`: what /api/index says; `view`: see address.js; `answer`: the last answer of the search page. */
export const state = { index: null, view: newView(), answer: null };

const names = new Map();
let show = () => {};

export function onView(listener) {
  show = listener;
}

/** Go to the view with these *changes*; *replace* leaves no step in the browser's history. */
export function go(changes, { replace = false } = {}) {
  state.view = { ...state.view, ...changes };
  const kept = { upload: state.view.upload };
  if (replace) history.replaceState(kept, "", writeAddress(state.view));
  else history.pushState(kept, "", writeAddress(state.view));
  show();
}

/** Go to a new view; nothing of the old one stays. */
export function leaveTo(changes) {
  go(newView(changes));
}

/** Take the view from the address bar, after it was typed, or after back and forward. */
export function follow(kept) {
  state.view = readAddress(location.search, kept?.upload ?? null);
  show();
}

/** The query as one key: equal keys, equal photo. */
export function queryKey(view) {
  if (view.upload !== null) return `upload ${view.upload}`;
  return view.id === null ? null : `id ${view.id}`;
}

export function learnName(number, name) {
  if (number !== null && number !== undefined && name) names.set(number, name);
}

export function nameOf(number) {
  return names.get(number) ?? `Landmark ${number}`;
}
