// Elements made in one line.  Text is always set as text: a name from a stranger's table can never become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element.  Keys of *properties*: `class`, `on…` (a listener), `data-…`, `aria-…`, or an attribute; null leaves one out. */
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Everything in *element* gives way to *children*. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the icons of the sprite in index.html. */
export function icon(name) {
  return draw("svg", { class: "icon", "aria-hidden": "true" }, draw("use", { href: `#icon-${name}` }));
}

export function button(label, { onclick, kind = "", icon: picture = null, ...more } = {}) {
  return make("button", { type: "button", class: `button ${kind}`.trim(), onclick, ...more }, picture && icon(picture), make("span", {}, label));
}

/** A button that shows only an icon; *label* is what a screen reader says and the tooltip shows. */
export function iconButton(label, picture, { onclick, kind = "", ...more } = {}) {
  return make("button", { type: "button", class: `icon-button ${kind}`.trim(), "aria-label": label, title: label, onclick, ...more }, icon(picture));
}

/** Said to screen readers, and to nobody else. */
export function say(text) {
  document.getElementById("says").textContent = text;
}

let toastTimer = null;

/** A short notice at the foot of the page; with *undo*, a button that takes back what was done. */
export function toast(text, { undo = null, wrong = false } = {}) {
  const place = document.getElementById("toast");
  clearTimeout(toastTimer);
  const close = () => { place.hidden = true; };
  replace(place, make("span", {}, text), undo && button("Undo", { kind: "plain", onclick: () => { close(); undo(); } }));
  place.className = wrong ? "toast wrong" : "toast";
  place.hidden = false;
  toastTimer = setTimeout(close, wrong ? 9000 : 6000);
}

/** Light or dark, whichever it is not now; theme.js finds it again on the next page. */
export function toggleTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("landseer-theme", document.documentElement.dataset.theme);
}
