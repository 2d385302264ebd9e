// One cell large: its numbers, neighbours, history, and occlusion map.

import { moveTo } from "./choice.js";
import { byId, make, say, short } from "./elements.js";
import { factOf, idAt } from "./gallery.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";

let shown = -1, facts = null, turn = 0; // cell_id, its facts, and the number of the request for them

// The cell that is shown large; -1 if none is.
export function largeCell() { return byId("large").open ? shown : -1; }

// Facts of the cell that a key is about.
export function factsHere() {
  if (largeCell() >= 0) return facts;
  return state.view.count ? factOf(state.focus) : null;
}

export async function openLarge(cell = undefined) {
  if (cell === undefined && !state.view.count) return;
  const opened = cell === undefined ? await idAt(state.focus).catch(fail) : cell;
  if (opened === undefined) return;
  shown = opened;
  await showLarge();
  if (facts && !byId("large").open) byId("large").showModal();
}

export async function showLarge() {
  const mine = ++turn, one = await ask("cell", { cell: shown }).catch(fail);
  if (!one || mine !== turn) return;
  facts = one;
  const stretch = byId("stretch").checked ? 1 : 0, picture = (id) => `/cell/${id}.png?stretch=${stretch}`;
  const table = (rows) => make("table", {}, ...rows.map(([name, value]) => make("tr", {}, make("td", { textContent: name }), make("td", { textContent: value }))));
  const title = (text) => make("h3", { textContent: text });
  const scroll = (node) => make("div", { className: "scroll", tabIndex: 0 }, node);
  const strip = (ids) => make("div", { className: "strip" }, ...ids.map((id) => make("button",
    { className: id === one.id ? "self" : "", title: `cell ${id}`, onclick: () => openLarge(id) }, make("img", { src: picture(id), alt: `cell ${id}` }))));
  const map = make("canvas", { className: "map", hidden: true });
  const size = `${one.width} x ${one.height} px`, um = one.um_per_px;
  const left = make("div", {},
    make("div", { className: "views" }, make("img", { className: "whole", src: picture(one.id), alt: `Cell ${one.key}` }), map),
    make("p", { textContent: um ? `${size}, ${um} µm/px: ${(one.width * um).toFixed(1)} x ${(one.height * um).toFixed(1)} µm` : `${size}, scale unknown` }));
  if (state.set.run) left.append(make("button", { id: "occlusion", textContent: "Occlusion map (o)", onclick: () => showOcclusion(map) }));
  left.append(title("Neighbours in the recording"), strip(one.in_time), title("Nearest in the embedding"),
    one.near.length ? strip(one.near) : make("p", { textContent: "The embedding is not computed yet." }));
  const right = make("div", {}, make("h2", { textContent: one.key }),
    table([...Object.entries(one.categories).map(([name, value]) => [name, value || "(none)"]), ...(one.tags.length ? [["tags", one.tags.join(", ")]] : [])]));
  if (one.probabilities) right.append(title("Probabilities"), table(one.probabilities.sort((a, b) => b[1] - a[1]).map(([name, share]) => [name, share.toFixed(4)])));
  right.append(title("Numbers, and the share of cells below"), scroll(table(one.numbers.map(([name, value, rank]) => [name, `${short(value)} (${Math.round(rank * 100)} %)`]))));
  const when = (entry) => `${entry.at.slice(0, 16).replace("T", " ")} ${entry.who}`;
  if (one.history.length) right.append(title("History"), scroll(table(one.history.map((entry) => [when(entry), entry.said + (entry.undone ? " (taken back)" : "")]))));
  byId("large-body").replaceChildren(make("div", { className: "one" }, left, right));
}

async function showOcclusion(map) {
  say("computing the occlusion map");
  const found = await ask("occlusion", { cell: shown }).catch(fail);
  if (!found) return;
  say(`Red: covering this place lowers the probability of ${found.name} (${found.plain.toFixed(2)}).`);
  const side = found.covered.length, falls = found.covered.flat().map((value) => Math.max(0, found.plain - value));
  const worst = Math.max(1e-6, ...falls), paper = map.getContext("2d");
  map.width = map.height = side;
  const image = paper.createImageData(side, side);
  falls.forEach((value, at) => image.data.set([220, 30, 30, Math.round((190 * value) / worst)], at * 4));
  paper.putImageData(image, 0, 0);
  map.hidden = false;
}

// Show the cell a few places on, unless the dialog is closed in the meantime.
export async function goOn(by) {
  moveTo(state.focus + by);
  const next = await idAt(state.focus).catch(fail);
  if (next === undefined || largeCell() < 0) return;
  shown = next;
  await showLarge();
}
