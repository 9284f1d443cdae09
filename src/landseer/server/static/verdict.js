// The answer first: which landmark it is, how sure that is, and who voted for it.

import * as api from "./api.js";
import { button, icon, make, replace } from "./dom.js";
import { go } from "./state.js";
import * as words from "./words.js";

const SHOWN_VOTES = 3;
const SHOWN_VOTERS = 5;

export class Verdict {
  /** *curate(answer)* makes the buttons with which the label is set right. */
  constructor(curate) {
    this.curate = curate;
    this.element = make("section", { class: "verdict", "aria-label": "The answer", "aria-busy": "false" });
  }

  waiting() {
    this.element.setAttribute("aria-busy", "true");
    replace(this.element, make("p", { class: "eyebrow" }, "Looking…"), ...["wide", "", "narrow"].map((size) => make("div", { class: `bone ${size}` })));
  }

  failed(message, again) {
    this.element.setAttribute("aria-busy", "false");
    replace(this.element, make("p", { class: "eyebrow" }, "No answer"), make("h1", {}, "That did not work"), make("p", { class: "wrong-text", role: "alert" }, message),
      make("p", {}, button("Try again", { onclick: again })));
  }

  show(answer) {
    this.element.setAttribute("aria-busy", "false");
    const { recognition } = answer;
    const head = recognition === null ? this.unnamed() : recognition.known ? this.known(recognition) : this.unknown(recognition);
    replace(this.element, ...head, this.curate(answer), recognition?.votes.length ? this.why(answer) : null, this.took(answer));
  }

  known(recognition) {
    const name = words.landmark(recognition.landmark, recognition.name);
    return [
      make("p", { class: "eyebrow" }, "This looks like"),
      make("h1", {}, make("a", { href: `/?page=landmark&landmark=${recognition.landmark}`, "data-follow": true }, name)),
      recognition.country && make("p", { class: "where" }, icon("pin"), words.country(recognition.country)),
      ...meter(recognition),
    ];
  }

  unknown(recognition) {
    const nearest = recognition.votes[0];
    return [
      make("p", { class: "eyebrow" }, "The answer"),
      make("h1", {}, "Not a landmark I know"),
      make("p", { class: "lead" }, nearest
        ? ["The nearest name would be ", make("b", {}, words.landmark(nearest.landmark, nearest.name)), ", but the photos below do not support it well enough."]
        : "No labelled photo comes near enough."),
      ...(nearest ? meter(recognition) : []),
    ];
  }

  unnamed() {
    return [
      make("p", { class: "eyebrow" }, "The answer"),
      make("h1", {}, "No name yet"),
      make("p", { class: "lead" }, "No photo among these carries a label, so nobody can vote. Below are the photos most like yours; name a few, and the next answer has a name."),
    ];
  }

  why(answer) {
    const { votes } = answer.recognition;
    const more = votes.length - SHOWN_VOTES;
    const list = make("ol", { class: "votes" }, votes.slice(0, SHOWN_VOTES).map((vote) => this.vote(vote)));
    return make("div", { class: "why" },
      make("h2", {}, "Why"),
      make("p", { class: "soft" }, "The labelled photos most like yours vote, the closer the heavier."),
      list,
      more > 0 && make("details", {}, make("summary", {}, `${more} more ${more === 1 ? "candidate" : "candidates"}`),
        make("ol", { class: "votes", start: SHOWN_VOTES + 1 }, votes.slice(SHOWN_VOTES).map((vote) => this.vote(vote)))),
      votes[0].photos.length > 0 && button("Show the matching points", { icon: "compare", onclick: () => go({ beside: votes[0].photos[0] }) }));
  }

  vote(vote) {
    const name = words.landmark(vote.landmark, vote.name);
    const bar = make("span", { class: "vote-bar" }, make("span", {}));
    bar.firstChild.style.width = `${Math.max(1, vote.share * 100)}%`;
    const voters = vote.photos.slice(0, SHOWN_VOTERS).map((id) => make("button",
      { type: "button", class: "voter", "aria-label": `Compare with a photo of ${name}`, title: id, onclick: () => go({ beside: id }) },
      make("img", { src: api.thumbnail(id, 96), alt: "", loading: "lazy", width: 48, height: 48 })));
    const hidden = vote.photos.length - voters.length;
    return make("li", { class: "vote" },
      make("div", { class: "vote-name" }, make("span", {}, name), make("b", {}, words.percent(vote.share))),
      bar, make("div", { class: "voters" }, voters, hidden > 0 && make("span", { class: "soft" }, `+ ${hidden}`)));
  }

  took({ seconds }) {
    const parts = ["decode", "model", "search", "rerank"].filter((name) => seconds[name]).map((name) => `${name} ${words.seconds(seconds[name])}`);
    return make("p", { class: "took", title: parts.join(", ") }, `Answered in ${words.seconds(seconds.total)}`);
  }
}

/** The confidence as words, number and bar, and what the number is not. */
function meter({ confidence, calibrated, known }) {
  const told = words.sureness(confidence, calibrated);
  const bar = make("span", { class: `meter ${known ? "" : "unsure"}`, "aria-hidden": "true" }, make("span", {}));
  bar.firstChild.style.width = `${Math.max(1.5, confidence * 100)}%`;
  return [
    make("p", { class: "sureness" }, make("b", {}, told), make("span", { class: "number" }, confidence.toFixed(2))),
    bar,
    make("p", { class: "caveat" }, calibrated
      ? `Calibrated: of answers this sure, about ${Math.round(confidence * 100)} in 100 are right.`
      : "Confidence is not calibrated here: a higher number is surer, but it is not a probability."),
  ];
}
