// Marks: sent one after the other; what the server has answered is on its disk.

import { chooseNone, moveTo, settled } from "./choice.js";
import { byId, make, number, say } from "./elements.js";
import { facts, idAt, visible, wantFacts } from "./gallery.js";
import { goOn, largeCell, showLarge } from "./large.js";
import { showProgress } from "./next.js";
import { ranges } from "./ranges.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";
import { askClass, askTag } from "./word.js";

let writing = Promise.resolve(), pending = 0;

export function isWriting() { return pending > 0; }

function who() { return byId("who").value.trim() || state.set.who; }

// The cells that a mark is about: the one shown large, else the selected ones, else the one with the focus.
async function target() {
  if (largeCell() >= 0) return { cells: String(largeCell()), single: true };
  await settled();
  if (state.wholeView) return { cells: { view: state.view.view }, single: false };
  if (state.chosen.size) return { cells: ranges([...state.chosen]), single: false };
  const place = state.focus;
  return state.view.count ? { cells: String(await idAt(place)), single: true } : null;
}

export function mark(said) {
  const name = who(), aim = target(), large = largeCell() >= 0;
  settled().then(() => {
    if (large) goOn(1);
    else if (state.wholeView || state.chosen.size) chooseNone();
    else moveTo(state.focus + 1);
  });
  pending++;
  writing = writing.then(async () => {
    const what = await aim;
    if (!what) return;
    const found = await ask("mark", { cells: what.cells, who: name, said });
    say(what.single ? "" : `${number(found.marked)} cells marked`);
    if (found.classes.length !== state.set.classes.length) { state.set.classes = found.classes; showPalette(); }
  }).catch(fail).finally(() => { pending--; return changed(); });
  return writing;
}

export function label(name) { return mark({ label: name }); }

// Take back the last mark of this person, or make the last one that was taken back hold again.
export function step(redo) {
  const name = who();
  writing = writing.then(async () => {
    const found = await ask("back", { who: name, redo }), nothing = redo ? "Nothing to redo." : "Nothing to undo.";
    say(found.marked ? `${redo ? "again" : "taken back"}: ${found.said}, ${number(found.marked)} cells` : nothing);
  }).catch(fail).finally(changed);
  return writing;
}

// What was shown stays until the new facts are there.
export async function changed() {
  const before = new Map([...facts].map(([block, one]) => [block, one.rows || one.before])), [first, end] = visible();
  for (const one of facts.values()) if (one.stop) one.stop.abort();
  facts.clear();
  const size = state.set.sheet_cells;
  for (let block = Math.floor(first / size); block * size < end; block++) wantFacts(block, before.get(block));
  await Promise.all([showProgress(), largeCell() >= 0 ? showLarge() : null]).catch(fail);
}

export function showPalette() {
  const button = (key, text, onclick) => make("button", { onclick }, ...(key ? [make("kbd", { textContent: `${key} ` })] : []), text);
  byId("palette").replaceChildren(
    ...state.set.classes.slice(0, 60).map((name, at) => button(at < 9 ? at + 1 : "", name, () => label(name))),
    button("c", "class ...", askClass), button("k", "keep", () => mark({ verdict: "keep" })),
    button("x", "drop", () => mark({ verdict: "drop" })), button("u", "unsure", () => mark({ unsure: true })),
    button("t", "tag ...", askTag), button("Backspace", "take back the label", () => mark({ reset: true, unsure: false })));
}
