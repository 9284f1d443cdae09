// Setting labels right: name, confirm, reject, merge, split.  Every change counts in the next answer.

import * as api from "./api.js";
import { button, make, replace, toast } from "./dom.js";
import { leaveTo, learnName, state } from "./state.js";
import { uploads } from "./uploads.js";
import * as words from "./words.js";

let changed = () => {};

/** *then* is called after each change that the server has taken. */
export function onChange(then) {
  changed = then;
}

export function mayWrite() {
  return state.index?.writable === true;
}

/** Do *change*, say *done*, look again; what the server refuses is said in its words. */
async function attempt(change, done, undo = null) {
  try {
    const result = await change();
    toast(typeof done === "function" ? done(result) : done, { undo: undo && (() => attempt(undo, "Taken back.")) });
    changed();
    return result;
  } catch (error) {
    toast(error.message, { wrong: true });
    return null;
  }
}

/** The buttons for the label of one photo; *guess* is the landmark that the answer names. */
export function labelButtons(item, guess = null) {
  if (!mayWrite()) return [];
  const offered = guess !== null && guess.landmark !== item.landmark;
  return [
    offered && button(`Label as ${guess.name}`, { icon: "check", kind: "quiet", onclick: () => setLabel(item, guess.landmark, guess.name) }),
    item.landmark !== null && button("Wrong label", { icon: "close", kind: "quiet", onclick: () => setLabel(item, null, null) }),
    button(item.landmark === null ? "Name…" : "Other name…", { icon: "edit", kind: "quiet", onclick: () => nameOne(item) }),
  ].filter(Boolean);
}

/** What can be done about the query of *answer*. */
export function queryCuration(answer) {
  if (!mayWrite()) return null;
  const { recognition, query } = answer;
  const guess = recognition?.known ? { landmark: recognition.landmark, name: words.landmark(recognition.landmark, recognition.name) } : null;
  const row = make("div", { class: "row curate" });
  if (query.id === null) {
    replace(row,
      guess && button(`Right: keep it as ${guess.name}`, { icon: "check", kind: "quiet keep", onclick: () => keep({ landmark: guess.landmark }, guess.name) }),
      button(guess ? "Wrong: name it…" : "Name this place…", { icon: "edit", kind: "quiet", onclick: () => keepNamed() }));
    return row;
  }
  api.photo(query.id).then((item) => {
    const said = item.landmark === null ? "This photo has no label." : guess && guess.landmark === item.landmark ? "Its label says the same." : `Its label says ${words.landmark(item.landmark, item.landmark_name)}.`;
    replace(row, make("span", { class: "soft" }, said), labelButtons(item, guess));
  }).catch(() => row.remove());
  return row;
}

function setLabel(item, landmark, name) {
  const before = item.landmark;
  return attempt(() => api.setLandmark(item.id, { landmark }), landmark === null ? "The label is taken away." : `Labelled as ${name}.`, () => api.setLandmark(item.id, { landmark: before }));
}

async function nameOne(item) {
  const name = await askName({ title: "Which place does this photo show?", doing: "Name it" });
  if (name) await attempt(() => api.setLandmark(item.id, { landmark_name: name }), `Labelled as ${name}.`, () => api.setLandmark(item.id, { landmark: item.landmark }));
}

/** Put the uploaded query into the index, labelled. */
async function keep(label, name) {
  const { file } = uploads[state.view.upload];
  const result = await attempt(async () => {
    const { added, there_already: there, unreadable } = await api.addPhoto(file, label);
    if (unreadable.length) throw new Error(unreadable[0].reason);
    for (const id of there) await api.setLandmark(id, label);
    return added[0] ?? there[0];
  }, `Kept as ${name}; the next answer counts it.`);
  if (result) leaveTo({ id: result });
}

async function keepNamed() {
  const name = await askName({ title: "Which place is this?", text: "The photo joins the collection under this name, and votes from now on.", doing: "Keep and name" });
  if (name) await keep({ landmark_name: name }, name);
}

export async function rename(landmark, before) {
  const name = await askName({ title: before ? `A new name for ${before}` : "A name for this group", doing: "Name it", start: before ?? "" });
  if (name && name !== before) {
    learnName(landmark, name);
    await attempt(() => api.renameLandmark(landmark, name), `Now called ${name}.`, before ? () => api.renameLandmark(landmark, before) : null);
  }
}

export async function mergeInto(landmark, name) {
  const other = await askLandmark({ title: `Which landmark is the same as ${name}?`, text: `Its photos join ${name}.`, doing: "Merge", without: landmark });
  if (other) await attempt(() => api.merge(landmark, [other.landmark]), `${words.photos(other.photos)} of ${words.landmark(other.landmark, other.name)} joined ${name}.`);
}

/** The bar for photos that were selected: label, move to a group of their own, take the label away. */
export function selectionBar(ids, { guess = null, done }) {
  const all = [...ids];
  const each = (change, told) => attempt(async () => { for (const id of all) await api.setLandmark(id, change); }, told).then(done);
  const none = all.length === 0;
  return make("div", { class: "selection", role: "region", "aria-label": "Selected photos" },
    make("b", {}, none ? "Choose photos" : `${words.photos(all.length)} chosen`),
    guess && button(`Label as ${guess.name}`, { icon: "check", kind: "quiet", disabled: none, onclick: () => each({ landmark: guess.landmark }, `${words.photos(all.length)} labelled as ${guess.name}.`) }),
    button("Name…", { icon: "edit", kind: "quiet", disabled: none, onclick: async () => {
      const name = await askName({ title: `Which place do these ${words.photos(all.length)} show?`, doing: "Name them" });
      if (name) await each({ landmark_name: name }, `${words.photos(all.length)} labelled as ${name}.`);
    } }),
    button("New group…", { icon: "plus", kind: "quiet", disabled: none, onclick: async () => {
      const name = await askName({ title: `A new group of ${words.photos(all.length)}`, text: "They leave the landmark they were in.", doing: "Split off" });
      if (name) await attempt(() => api.split(all, name), `${words.photos(all.length)} are ${name} now.`).then(done);
    } }),
    button("Take label away", { icon: "close", kind: "quiet", disabled: none, onclick: () => each({ landmark: null }, `${words.photos(all.length)} without a label now.`) }),
    button("Done", { kind: "plain", onclick: done }));
}

/** A dialog with one field; resolves to the text, or to null. */
function ask({ title, text = null, doing, field, value }) {
  return new Promise((resolve) => {
    const error = make("p", { class: "wrong-text", role: "alert", hidden: true });
    const dialog = make("dialog", { class: "ask", "aria-labelledby": "ask-title" });
    const finish = (result) => { dialog.returnValue = ""; resolve(result); dialog.close(); };
    const form = make("form", { onsubmit: (event) => {
      event.preventDefault();
      const result = value();
      error.hidden = result !== null;
      if (result === null) error.textContent = "Choose one of the list, or cancel.";
      else finish(result);
    } },
    make("h2", { id: "ask-title" }, title), text && make("p", { class: "soft" }, text), field, error,
    make("div", { class: "row end" }, button("Cancel", { kind: "plain", onclick: () => finish(null) }), button(doing, { kind: "primary", type: "submit" })));
    dialog.append(form);
    dialog.addEventListener("close", () => { resolve(null); dialog.remove(); });
    document.getElementById("dialogs").append(dialog);
    dialog.showModal();
    field.querySelector("input").focus();
  });
}

/** A name, known or new; known ones are offered while typing. */
function askName({ start = "", ...told }) {
  const { field, input } = nameField("Name", start);
  return ask({ ...told, field, value: () => input.value.trim() || null });
}

function askLandmark({ without, ...told }) {
  const { field, input, found } = nameField("Landmark", "");
  const value = () => found().find(({ landmark, name }) => landmark !== without && words.landmark(landmark, name) === input.value) ?? null;
  return ask({ ...told, field, value });
}

function nameField(label, start) {
  let known = [];
  const list = make("datalist", { id: "ask-names" });
  const input = make("input", { type: "text", list: "ask-names", required: true, maxlength: "200", autocomplete: "off" });
  input.value = start;
  input.addEventListener("input", async () => {
    const { landmarks } = await api.landmarks({ text: input.value.trim(), limit: 12 });
    known = [...landmarks, ...known];
    replace(list, landmarks.map(({ landmark, name, photos }) => make("option", { value: words.landmark(landmark, name) }, words.photos(photos))));
  });
  return { field: make("label", { class: "field" }, label, input, list), input, found: () => known };
}

/** Ask for the token that the server was started with; null where the user gives up. */
export function askToken(wasWrong) {
  const input = make("input", { type: "password", required: true, autocomplete: "off" });
  return ask({
    title: "The token, please",
    text: wasWrong ? "That was not it. It is what landseer serve was started with." : "Changes need the token that landseer serve was started with. It is kept until this tab closes.",
    doing: "Go on", field: make("label", { class: "field" }, "Token", input), value: () => input.value || null,
  });
}
