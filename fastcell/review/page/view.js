// The cells that meet the query, and what the server says of the data set.

import { writeAddress } from "./address.js";
import { showCharts } from "./charts.js";
import { showStatus } from "./choice.js";
import { byId, make, number, say } from "./elements.js";
import { facts, layOut } from "./gallery.js";
import { showPalette } from "./marks.js";
import { showPlane } from "./plane.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";
import { showTerms } from "./terms.js";

const FIRST_CHARTS = [
  "class", "called", "agrees", "subset", "group", "collection", "fault", "verdict", "by_hand", "unsure", "unlike",
  "confidence", "margin", "quality", "unlike_score",
];

let loading = 0;
export async function load(place = 0, push = false) {
  const mine = ++loading;
  try {
    const found = await ask("view", state.query);
    if (mine !== loading) return;
    state.view = found;
    state.sequence = Math.max(state.sequence, found.sequence);
    facts.clear();
    state.wholeView = false;
    state.focus = state.anchor = Math.min(place, Math.max(0, state.view.count - 1));
    const all = state.view.count === state.set.cells;
    byId("count").textContent = all ? `${number(state.set.cells)} cells` : `${number(state.view.count)} of ${number(state.set.cells)} cells`;
    layOut(state.focus);
    showTerms();
    showStatus();
    writeAddress(push);
    say("");
    await Promise.all([showCharts(), showPlane()]);
  } catch (error) { fail(error); }
}
export function change(terms, sort = state.query.sort) { state.query = { terms, sort }; state.chosen.clear(); return load(0, true); }
export function withoutTerm(test) { return state.query.terms.filter((term) => !test(term)); }

export function fillSelect(select, names, empty) {
  const before = select.value, first = empty === null ? [] : [make("option", { value: "", textContent: empty })];
  select.replaceChildren(...first, ...names.map((name) => make("option", { value: name, textContent: name })));
  if (names.includes(before)) select.value = before;
}
export function moreColumns() { return [...state.set.categories, ...state.set.numbers].filter((name) => !state.charts.includes(name)); }

export async function loadSet() {
  state.set = await ask("set");
  if (!state.charts.length) state.charts = [...FIRST_CHARTS];
  state.version = state.set.version;
  state.sequence = Math.max(state.sequence, state.set.sequence);
  byId("name").textContent = state.set.name + (state.set.run ? ` · ${state.set.run.split("/").pop()}` : "");
  document.title = `${state.set.name} · fastcell review`;
  fillSelect(byId("sort"), [...state.set.categories, ...state.set.numbers], "stored order");
  fillSelect(byId("plane-x"), state.set.numbers, null);
  fillSelect(byId("plane-y"), state.set.numbers, null);
  fillSelect(byId("more"), moreColumns(), "choose a column");
  showPalette();
  showJob(state.set.embedding);
}

export function showJob(job) {
  const doing = state.set.run ? "classifying" : "measuring", done = `${number(job.done)} of ${number(job.total)} cells`;
  const words = { none: "", ready: "", error: `The embedding failed: ${job.error}`, running: `${doing} ${done}` };
  byId("job").textContent = words[job.state];
  byId("embed").hidden = job.state === "ready" || job.state === "running";
}
