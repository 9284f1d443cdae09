// Light or dark, before anything is painted: a script of the head, so not a module.
{
  const kept = localStorage.getItem("landseer-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
}
