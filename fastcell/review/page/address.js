// The address of the page: query, axes of the scatter plot, selected cells, and the place in the gallery.

import { byId } from "./elements.js";
import { ranges, unranges } from "./ranges.js";
import { state } from "./state.js";

const MOST_CELLS = 1000; // that are selected one by one
let timer = 0;

export function writeAddress(push = false) {
  const kept = { t: state.query.terms };
  if (state.query.sort) kept.s = state.query.sort;
  if (byId("plane-x").value) { kept.x = byId("plane-x").value; kept.y = byId("plane-y").value; }
  if (!state.wholeView && state.chosen.size && state.chosen.size <= MOST_CELLS) kept.sel = ranges([...state.chosen]);
  if (state.focus) kept.p = state.focus;
  const hash = `#${encodeURIComponent(JSON.stringify(kept))}`;
  if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
}

export function addressSoon() { clearTimeout(timer); timer = setTimeout(writeAddress, 300); }

// What the address says; `otherwise` where it says nothing that can be read.
export function readAddress(otherwise) {
  const nothing = { terms: otherwise.terms, sort: otherwise.sort, x: "", y: "", chosen: [], place: 0 };
  try {
    const kept = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return {
      terms: Array.isArray(kept.t) ? kept.t : [], sort: typeof kept.s === "string" ? kept.s : "",
      x: kept.x, y: kept.y, chosen: unranges(kept.sel || ""), place: Number.isInteger(kept.p) ? kept.p : 0,
    };
  } catch { return nothing; }
}
