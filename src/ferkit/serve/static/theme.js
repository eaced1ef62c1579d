// Colours before anything is painted: as the system has them, unless the switch says otherwise. Not a module, which
// would come too late.
"use strict";
(() => {
  const KEY = "ferkit-theme";
  let stored = null;
  try { stored = localStorage.getItem(KEY); } catch { /* private windows may refuse */ }
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;

  const WORDS = { auto: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" };
  const NEXT = { auto: "dark", dark: "light", light: "auto" };
  const current = () => document.documentElement.dataset.theme ?? "auto";

  window.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-button");
    const show = () => {
      button.setAttribute("aria-label", WORDS[current()]);
      button.title = WORDS[current()];
    };
    button.addEventListener("click", () => {
      const theme = NEXT[current()];
      if (theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      try { localStorage.setItem(KEY, theme); } catch { /* then it lasts as long as the page */ }
      window.dispatchEvent(new Event("themechange"));
      show();
    });
    show();
  });
})();
