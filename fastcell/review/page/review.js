// The page of `fastcell review`: controls, and the start.

import { readAddress, writeAddress } from "./address.js";
import { showCharts } from "./charts.js";
import { byId, keep, kept, say } from "./elements.js";
import { follow } from "./follow.js";
import { layOut, refill, scroller } from "./gallery.js";
import { onKey, showHelp } from "./keys.js";
import { step } from "./marks.js";
import { nextCells, showProgress } from "./next.js";
import { showPlane } from "./plane.js";
import { FORGOTTEN, ask, fail } from "./server.js";
import { state } from "./state.js";
import { beginTheme, turnTheme } from "./theme.js";
import { change, fillSelect, load, loadSet, moreColumns, showJob, withoutTerm } from "./view.js";

function wire() {
  document.addEventListener("keydown", onKey);
  byId("undo").onclick = () => step(false);
  byId("redo").onclick = () => step(true);
  byId("next").onclick = nextCells;
  byId("help-open").onclick = showHelp;
  byId("theme").onclick = turnTheme;
  byId("filters").onclick = () => {
    const side = byId("side");
    side.hidden = !side.hidden;
    byId("filters").setAttribute("aria-expanded", !side.hidden);
    layOut();
    if (!side.hidden) Promise.all([showCharts(), showPlane()]).catch(fail);
  };
  byId("sort").onchange = () => change(state.query.terms, byId("sort").value);
  byId("sort-turn").onclick = () => { if (state.query.sort) change(state.query.terms, state.query.sort.startsWith("-") ? state.query.sort.slice(1) : `-${state.query.sort}`); };
  byId("key").onchange = () => {
    const text = byId("key").value, others = withoutTerm((term) => term.key !== undefined);
    change(text ? [...others, { key: text }] : others);
  };
  byId("size").oninput = () => { keep("size", byId("size").value); layOut(); };
  for (const id of ["stretch", "common", "details"]) byId(id).onchange = () => { keep(id, byId(id).checked ? "1" : "0"); layOut(); };
  byId("who").onchange = () => keep("who", byId("who").value);
  for (const id of ["plane-x", "plane-y"]) byId(id).onchange = () => { writeAddress(); showPlane().catch(fail); };
  byId("plane-box").ontoggle = () => { if (state.view.view) showPlane().catch(fail); };
  byId("embed").onclick = () => ask("embed").then(showJob).catch(fail);
  byId("more").onchange = () => {
    if (!byId("more").value) return;
    state.charts.unshift(byId("more").value);
    fillSelect(byId("more"), moreColumns(), "choose a column");
    showCharts().catch(fail);
  };
  window.addEventListener("popstate", () => goTo(readAddress({ terms: [], sort: "" })));
  document.addEventListener(FORGOTTEN, () => load(state.focus));
  new ResizeObserver(() => { if (state.view.view) layOut(); }).observe(scroller);
}

async function goTo(place) {
  state.query = { terms: place.terms, sort: place.sort };
  for (const [id, name] of [["plane-x", place.x], ["plane-y", place.y]]) if (state.set.numbers.includes(name)) byId(id).value = name;
  await load(place.place);
  state.chosen = new Set(place.chosen);
  refill();
}

async function begin() {
  wire();
  beginTheme();
  if (kept("size")) byId("size").value = kept("size");
  for (const id of ["stretch", "common", "details"]) if (kept(id)) byId(id).checked = kept(id) === "1";
  if (innerWidth <= 760) { byId("side").hidden = true; byId("filters").setAttribute("aria-expanded", "false"); }
  try { await loadSet(); } catch (error) { fail(error); return; }
  byId("who").value = kept("who") || state.set.who;
  const axis = (names) => [...names, state.set.numbers[0]].find((name) => state.set.numbers.includes(name));
  byId("plane-x").value = axis(["embedding_1", "qc_focus", "width"]);
  byId("plane-y").value = axis(["embedding_2", "qc_contrast", "height"]);
  await goTo(readAddress(state.set.query));
  scroller.focus({ preventScroll: true });
  if (!state.set.writable) say("The folder of the data set cannot be written: marks are off.");
  showProgress().catch(fail);
  follow();
}

begin();
