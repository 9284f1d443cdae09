// The answers as a file: what the page shows, with the query and the filters that gave it.

import { filterText, writeAddress } from "./address.js";

const COLUMNS = ["rank", "id", "score", "landmark", "landmark_name", "country", "taken", "latitude", "longitude", "why"];

export function saveJson(answer, view) {
  const told = { query: answer.query, filter: filterText(view.filters), address: view.id === null ? null : writeAddress(view), recognition: answer.recognition, answers: answer.answers };
  offer(JSON.stringify(told, null, 2), "application/json", "answers.json");
}

export function saveCsv(answer) {
  const lines = [COLUMNS, ...answer.answers.map((row) => COLUMNS.map((column) => row[column]))];
  offer(`\ufeff${lines.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`, "text/csv", "answers.csv");
}

/** Quoted where it must be; a text that a spreadsheet would run as a formula is kept a text. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function offer(text, type, name) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
