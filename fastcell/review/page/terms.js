// The terms of the query above the filters.

import { byId, make, number, short } from "./elements.js";
import { unranges } from "./ranges.js";
import { state } from "./state.js";
import { change, withoutTerm } from "./view.js";

function wordsOf(term) {
  const not = term.not ? "not " : "", given = (value) => value !== undefined && value !== null;
  if (term.is) return `${not}${term.column}: ${term.is.map((name) => name || "(none)").join(" | ")}`;
  if (term.gate) return `${not}gate of ${term.gate[0]} and ${term.gate[1]}`;
  if (term.cells !== undefined) return `${not}${number(unranges(term.cells).length)} cells that were named`;
  if (term.tag !== undefined) return `${not}tag ${term.tag}`;
  if (term.key !== undefined) return `${not}key contains ${term.key}`;
  const from = given(term.from) ? ` from ${short(term.from)}` : "", to = given(term.to) ? ` to ${short(term.to)}` : "";
  return `${not}${term.column}:${from}${to}`;
}

export function showTerms() {
  const turned = (at) => state.query.terms.map((term, place) => (place === at ? { ...term, not: !term.not } : term));
  byId("terms").replaceChildren(...state.query.terms.map((term, at) => make("div", { className: "term" },
    make("span", { textContent: wordsOf(term) }),
    make("span", {},
      make("button", { textContent: "not", "aria-label": `Turn around ${wordsOf(term)}`, onclick: () => change(turned(at)) }),
      make("button", { textContent: "✕", "aria-label": `Remove ${wordsOf(term)}`, onclick: () => change(withoutTerm((one) => one === term)) })))));
  if (state.query.terms.length) byId("terms").append(make("button", { textContent: "All cells", onclick: () => change([]) }));
  byId("sort").value = state.query.sort.replace(/^-/, "");
  byId("sort-turn").textContent = state.query.sort.startsWith("-") ? "↓" : "↑";
  const key = state.query.terms.find((term) => term.key !== undefined);
  byId("key").value = key ? key.key : "";
}
