// The query photo, its crop, and the row of all photos that were dropped.

import * as api from "./api.js";
import { Crop } from "./crop.js";
import { button, make, replace } from "./dom.js";
import { go, leaveTo, state } from "./state.js";
import { uploads } from "./uploads.js";

export class QueryPanel {
  constructor() {
    this.photo = make("img", { class: "query-photo", alt: "", draggable: "false" });
    this.photo.addEventListener("error", () => this.unshown(true));
    this.photo.addEventListener("load", () => this.shown());
    this.cannot = make("p", { class: "cannot", hidden: true }, "This browser cannot show this kind of file. The answer is not affected.");
    this.stage = make("div", { class: "stage" }, this.photo);
    this.crop = new Crop(this.stage, (box) => go({ crop: box, beside: null }));
    this.caption = make("p", { class: "query-name" });
    this.actions = make("div", { class: "row query-actions" });
    this.element = make("figure", { class: "query", "aria-label": "Your photo" }, this.stage, this.cannot, make("figcaption", {}, this.caption, this.actions));
  }

  /** The photo of *view*; *answer* brings the suggested box, once it is there. */
  show(view, answer) {
    const upload = view.upload === null ? null : uploads[view.upload];
    const url = upload ? upload.url : api.image(view.id);
    if (this.photo.getAttribute("src") !== url) this.photo.setAttribute("src", url);
    const name = upload ? upload.title : view.id;
    this.photo.alt = `The query: ${name}`;
    this.caption.textContent = name;
    this.caption.title = name;
    const suggested = answer?.query.box ?? null;
    this.crop.show(view.crop, suggested);
    replace(this.actions,
      button("Crop", { icon: "crop", kind: "quiet", onclick: () => this.crop.begin(), "data-key": "c" }),
      suggested && !view.crop && button("Main object", { icon: "object", kind: "quiet", onclick: () => go({ crop: suggested, beside: null }) }),
      view.crop && button("Whole photo", { icon: "whole", kind: "quiet", onclick: () => go({ crop: null, beside: null }) }));
  }

  /** Small photos are drawn larger, tall ones smaller: the box of the photo is the box of the crop. */
  shown() {
    this.unshown(false);
    this.stage.style.setProperty("--shape", String(this.photo.naturalWidth / this.photo.naturalHeight));
  }

  unshown(yes) {
    this.stage.hidden = yes;
    this.cannot.hidden = !yes;
  }
}

/** The uploads side by side, with how far each is; nothing for a single one. */
export class UploadRow {
  constructor() {
    this.bar = make("progress", { max: "1", "aria-label": "Photos answered" });
    this.told = make("p", { class: "soft" });
    this.list = make("ul", { class: "upload-list" });
    this.element = make("section", { class: "uploads", "aria-label": "Your photos", hidden: true },
      make("div", { class: "upload-progress" }, this.bar, this.told), this.list);
  }

  show() {
    this.element.hidden = uploads.length < 2;
    if (this.element.hidden) return;
    const done = uploads.filter(({ state: now }) => now === "answered" || now === "failed").length;
    const parts = uploads.reduce((sum, { state: now, progress }) => sum + (now === "answered" || now === "failed" ? 1 : progress * 0.8), 0);
    this.bar.value = parts / uploads.length;
    this.bar.hidden = done === uploads.length;
    const failed = uploads.filter(({ state: now }) => now === "failed").length;
    this.told.textContent = `${done} of ${uploads.length} photos answered${failed ? `, ${failed} could not be read` : ""}`;
    replace(this.list, uploads.map((upload) => this.entry(upload)));
  }

  entry(upload) {
    const current = state.view.upload === upload.number;
    const label = `${upload.title}: ${upload.error ?? upload.verdict ?? "waiting"}`;
    const photo = make("img", { src: upload.url, alt: "" });
    return make("li", { class: upload.state },
      make("button", { type: "button", "aria-label": label, title: label, "aria-current": current ? "true" : null, onclick: () => leaveTo({ upload: upload.number }) },
        photo, make("span", { class: "upload-verdict" }, upload.error ? "not readable" : upload.verdict ?? "…")));
  }
}
