// Photos that came in by drop, paste or choice.  They live in this tab; each has a number, in the order they came.

/** Each: number, file, url (for <img>), progress 0..1, state (waiting | sending | answered | failed), title, error. */
export const uploads = [];

let changed = () => {};
let arrived = () => {};

/** *change* is called when anything of an upload changes; *arrive* with the uploads that have just come. */
export function onUploads({ change, arrive }) {
  changed = change;
  arrived = arrive;
}

export function update(upload, changes) {
  Object.assign(upload, changes);
  changed(upload);
}

export function take(files) {
  const taken = [...files].map((file) => {
    const upload = { number: uploads.length, file, url: URL.createObjectURL(file), progress: 0, state: "waiting", title: file.name || "pasted photo", error: null };
    uploads.push(upload);
    return upload;
  });
  if (taken.length) arrived(taken);
}

/** Listen for photos on the whole page. */
export function listen() {
  const input = document.getElementById("files");
  const veil = document.getElementById("drop-here");
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    depth = 0;
    veil.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files);
  });
}

export function choose() {
  document.getElementById("files").click();
}
