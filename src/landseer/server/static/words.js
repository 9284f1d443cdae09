// Numbers, dates and names as people read them.

const REGIONS = new Intl.DisplayNames(["en"], { type: "region", fallback: "code" });
const COUNT = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

export function count(number) {
  return COUNT.format(number);
}

export function photos(number) {
  return `${count(number)} ${number === 1 ? "photo" : "photos"}`;
}

/** The English name of an ISO 3166 alpha-2 code; a code nobody knows stays a code. */
export function country(code) {
  if (!code) return "";
  try {
    return REGIONS.of(code);
  } catch {
    return code;
  }
}

export function day(iso) {
  const time = iso ? new Date(/[zZ]|[+-]\d\d:\d\d$/.test(iso) || iso.length <= 10 ? iso : `${iso}Z`) : null;
  return time && !Number.isNaN(time.getTime()) ? DAY.format(time) : "";
}

export function year(iso) {
  return day(iso).slice(-4);
}

export function score(value) {
  return Number.isFinite(value) ? value.toFixed(3) : "–";
}

export function percent(share) {
  return share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(share * 100)} %`;
}

export function seconds(value) {
  return value < 0.0995 ? `${Math.max(1, Math.round(value * 1000))} ms` : `${value.toFixed(value < 9.95 ? 1 : 0)} s`;
}

/** What a landmark is called; one without a name is a group that waits for it. */
export function landmark(number, name) {
  if (name) return name;
  return number === null || number === undefined ? "No label" : `Group ${number}, not named yet`;
}

/** A confidence in words: a probability where it was calibrated, else how well the photos support the answer. */
export function sureness(confidence, calibrated) {
  const steps = calibrated
    ? [[0.95, "Almost certain"], [0.8, "Very likely"], [0.6, "Likely"], [0.35, "Perhaps"], [0, "Hardly more than a guess"]]
    : [[0.7, "Strong support"], [0.45, "Fair support"], [0.2, "Weak support"], [0, "Hardly any support"]];
  return steps.find(([least]) => confidence >= least)?.[1] ?? steps.at(-1)[1];
}

const STEP = /(?:^|; )(?:([a-z][a-z0-9-]*): )?(\d+|new) -> (\d+): /g;

/** "57 -> 3: because", or "one: 57 -> 9: because; other: 9 -> 3: because", as {before, after, steps}; null where nothing moved. */
export function move(why) {
  const heads = [...(why ?? "").matchAll(STEP)];
  if (!heads.length) return null;
  const steps = heads.map((head, place) => ({
    method: head[1] ?? null,
    before: head[2] === "new" ? null : Number(head[2]),
    after: Number(head[3]),
    reason: why.slice(head.index + head[0].length, heads[place + 1]?.index),
  }));
  return { before: steps[0].before, after: steps.at(-1).after, steps };
}

/** "57 → 3" */
export function moved({ before, after }) {
  return before === null ? `new at ${after}` : `${before} → ${after}`;
}

/** A step in one line: where from, where to, by what, and why. */
export function stepTold(step) {
  return `${moved(step)}${step.method ? ` by ${step.method}` : ""}: ${step.reason}`;
}
