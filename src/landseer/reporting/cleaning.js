"use strict";
const lines = document.getElementById("lines");
const buttons = [...document.querySelectorAll(".overrule")];
function collect() {
  const said = buttons.filter((button) => button.getAttribute("aria-pressed") === "true");
  lines.value = ["id,decision", ...said.map((button) => button.dataset.line)].join("\n") + "\n";
}
for (const button of buttons) {
  button.hidden = false;
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    collect();
  });
}
document.getElementById("overrides").hidden = false;
collect();
