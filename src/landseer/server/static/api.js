// The server, as functions.  Every one resolves to what the server says, or throws Refused with the server's one clear line.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const TOKEN = "landseer-token";
const CHANGE = { change: true };
let askForToken = async () => null;
let asking = null;

/** *ask(wasWrong)* is called when the server wants its token; it resolves to the token, or to null when the user gives up. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

export const index = () => get("index");
export const similar = (id, options, signal) => get("similar", { id, ...asked(options) }, signal);
export const photo = (id) => get("photo", { id });
export const photos = (options) => get("photos", options);
export const landmarks = (options) => get("landmarks", options);
export const countries = () => get("countries");

// A finished run, where the server was started with one.
export const run = (options) => get("run", options);
export const runQueries = (options, signal) => get("run/queries", options, signal);
export const runQuery = (id, signal) => get("run/query", { id }, signal);
export const runThumbnail = (id, side = 224) => `/api/run/thumbnail?${new URLSearchParams({ id, side })}`;

export const thumbnail = (id, side = 320) => `/api/thumbnail?${new URLSearchParams({ id, side })}`;
export const image = (id, side = 1280) => `/api/image?${new URLSearchParams({ id, side })}`;

/** Answers to the photo in *file*; *onProgress* is told the part that has been sent. */
export function search(file, options, { signal, onProgress } = {}) {
  return upload("search", asked(options), { photo: file }, { signal, onProgress });
}

/** Points matched between the query (a File, or the id of a photo) and a photo of the index. */
export function match(query, id) {
  return typeof query === "string" ? send("POST", "match", {}, { a: query, b: id }) : upload("match", {}, { photo: query, id });
}

// Changes: the server takes them with its token only.
export const setLandmark = (id, change) => send("PATCH", "photo", { id }, change, CHANGE);
export const renameLandmark = (landmark, name) => send("PATCH", "landmark", { landmark }, { name }, CHANGE);
export const merge = (into, from) => send("POST", "landmarks/merge", {}, { into, from }, CHANGE);
export const split = (ids, name) => send("POST", "landmarks/split", {}, { photos: ids, name }, CHANGE);

/** Put the photo in *file* into the index; *label* is {landmark} or {landmark_name}. */
export const addPhoto = (file, label) => upload("photos", {}, { photos: file, ...label }, CHANGE);

function asked({ k, filter, crop, rerank }) {
  return { k, filter, crop: crop ? crop.map((part) => part.toFixed(4)).join(",") : null, rerank, explain: true };
}

function address(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function get(path, query = {}, signal = undefined) {
  return withToken(false, (headers) => reach(address(`/api/${path}`, query), { headers, signal }));
}

function send(method, path, query, body, { change = false } = {}) {
  return withToken(change, (headers) => reach(address(`/api/${path}`, query), { method, headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) }));
}

async function reach(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, UNREACHED);
  }
  const body = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, refusal(response.status, body));
  return body;
}

const UNREACHED = "The server does not answer; is landseer serve still running?";

function refusal(status, body) {
  return typeof body?.error === "string" ? body.error : `The server refused that (${status}).`;
}

/** XMLHttpRequest, since fetch does not tell how much of a body was sent. */
function upload(path, query, fields, { signal, onProgress, change = false } = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, value.name || "photo");
    else form.append(name, value);
  }
  return withToken(change, (headers) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(`/api/${path}`, query));
    request.responseType = "json";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress?.(event.loaded / event.total);
    request.onload = () => (request.status < 300 ? resolve(request.response) : reject(new Refused(request.status, refusal(request.status, request.response))));
    request.onerror = () => reject(new Refused(0, UNREACHED));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  }));
}

/** Do *attempt* with the token this tab knows; a *change* needs one, and where the server wants another it is asked for. */
async function withToken(change, attempt) {
  const token = sessionStorage.getItem(TOKEN);
  try {
    if (!change || token) return await attempt(token ? { Authorization: `Bearer ${token}` } : {});
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  asking ??= signIn().finally(() => { asking = null; });
  return attempt({ Authorization: `Bearer ${await asking}` });
}

/** The token, tried out: with it comes the cookie by which pictures may be seen. */
async function signIn() {
  for (let wasWrong = false; ; wasWrong = true) {
    const token = await askForToken(wasWrong);
    if (token === null) throw new Refused(401, "This needs the server's token.");
    try {
      await reach("/api/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
      sessionStorage.setItem(TOKEN, token);
      return token;
    } catch (error) {
      if (error.status !== 401) throw error;
    }
  }
}
