// Which cells are selected, and where the focus is.

import { addressSoon } from "./address.js";
import { byId, number } from "./elements.js";
import { factOf, grid, refill, scrollToTop, scroller } from "./gallery.js";
import { unranges } from "./ranges.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";

let choosing = Promise.resolve(); // ranges are asked for one after the other, before what is done with them

export function settled() { return choosing; }

export function choose(place, event) {
  if (place < 0) return;
  scroller.focus({ preventScroll: true });
  if (event.shiftKey) { state.focus = place; chooseRange(state.anchor, place); } else {
    const one = factOf(place);
    if (one && (event.ctrlKey || event.metaKey)) toggle(one.id); else { state.chosen.clear(); state.wholeView = false; }
    state.focus = state.anchor = place;
  }
  refill();
  addressSoon();
}

export function toggle(id) {
  if (state.wholeView) { state.wholeView = false; state.chosen.clear(); }
  if (state.chosen.has(id)) state.chosen.delete(id); else state.chosen.add(id);
}

function chooseRange(first, last) {
  const where = { view: state.view.view, first: Math.min(first, last), last: Math.max(first, last) };
  choosing = choosing.then(async () => {
    const found = await ask("ids", where);
    state.wholeView = false;
    for (const id of unranges(found.cells)) state.chosen.add(id);
  }).catch(fail).then(() => { refill(); addressSoon(); });
  return choosing;
}
export function extend(by) { const before = state.focus; moveTo(state.focus + by); return chooseRange(before, state.focus); }

export function chooseAll() { state.wholeView = true; state.chosen.clear(); refill(); }
export function chooseNone() { state.wholeView = false; state.chosen.clear(); refill(); addressSoon(); }

export function moveTo(place) {
  state.focus = Math.max(0, Math.min(state.view.count - 1, place));
  const top = Math.floor(state.focus / grid.columns) * grid.height;
  if (top < grid.top) scrollToTop(top);
  else if (top + grid.height > grid.top + scroller.clientHeight) scrollToTop(top + grid.height - scroller.clientHeight);
  refill();
  addressSoon();
}
export function numChosen() { return state.wholeView ? state.view.count : state.chosen.size; }

export function showStatus() {
  const one = state.view.count ? factOf(state.focus) : null, parts = [];
  if (numChosen()) parts.push(`${number(numChosen())} chosen`);
  if (one) {
    parts.push(one.key, one.group && `group ${one.group}`, one.class || "no class",
      one.called && `called ${one.called} ${one.confidence ?? ""}`, one.fault && `fault ${one.fault}`,
      one.drop && "dropped", one.unsure && "unsure", ...one.tags.map((tag) => `#${tag}`));
  }
  byId("status").textContent = parts.filter(Boolean).join(" · ");
  scroller.setAttribute("aria-activedescendant", `cell-${state.focus}`);
}
