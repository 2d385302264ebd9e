// Active learning: the cells to label next, and how far the labels have come.

import { byId, number, say } from "./elements.js";
import { scroller } from "./gallery.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";
import { change } from "./view.js";

const MOST = 10000;

export async function nextCells() {
  say("choosing cells");
  const num = Math.max(1, Math.min(MOST, Math.round(Number(byId("next-num").value)) || 100));
  const found = await ask("next", { num, how: byId("next-how").value }).catch(fail);
  if (!found) return;
  await change([{ cells: found.cells }], "");
  scroller.focus({ preventScroll: true });
  if (!state.view.count) say("Every cell has a label, is unsure or is dropped.");
}

export async function showProgress() {
  const found = await ask("progress"), share = found.agreement;
  const by = share && share.by === "page" ? "a model fitted to them" : "the model";
  const agreement = share ? `, agreement with ${by} ${share.value.toFixed(2)} (${share.low.toFixed(2)} to ${share.high.toFixed(2)})` : "";
  byId("progress").textContent = `labelled ${number(found.labelled)} of ${number(found.cells)}${agreement}` +
    (found.unsure ? `, unsure ${number(found.unsure)}` : "") + (found.dropped ? `, dropped ${number(found.dropped)}` : "");
}
