// Dark or light.

import { showCharts } from "./charts.js";
import { keep, kept } from "./elements.js";
import { paintPlane } from "./plane.js";
import { fail } from "./server.js";

export function beginTheme() { document.documentElement.dataset.theme = kept("theme") || "auto"; }

export function turnTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = root.dataset.theme === "dark" || (root.dataset.theme === "auto" && dark) ? "light" : "dark";
  keep("theme", root.dataset.theme);
  showCharts().catch(fail);
  paintPlane();
}
