// Keys of the page, and the help that lists them.

import { addressSoon } from "./address.js";
import { chooseAll, chooseNone, extend, moveTo, numChosen, toggle } from "./choice.js";
import { byId, make } from "./elements.js";
import { factOf, grid, refill, scroller } from "./gallery.js";
import { factsHere, goOn, openLarge } from "./large.js";
import { label, mark, step } from "./marks.js";
import { plane } from "./plane.js";
import { nextCells } from "./next.js";
import { state } from "./state.js";
import { turnTheme } from "./theme.js";
import { load } from "./view.js";
import { askClass, askTag } from "./word.js";

const KEYS = [
  ["arrows, Page, Home, End", "move"], ["Shift + arrows", "choose several"], ["Space", "choose or leave one"],
  ["a", "choose all of the view"], ["Enter", "one cell large; arrows go on"], ["Escape", "close, or choose none"],
  ["1 to 9", "class"], ["c", "class by name, or a new one"], ["k, x", "keep, drop"], ["u", "unsure, or sure again"],
  ["t", "tag"], ["Backspace", "take back the label"], ["z, y", "undo, redo your own marks"], ["n", "cells to label next"],
  ["f", "to the filters"], ["s", "to the order"], ["g", "to the scatter plot: arrows, Enter sets a corner, c closes the gate"],
  ["b", "contrast"], ["+, -", "size"], ["d", "dark or light"], ["r", "apply the selection again"],
  ["o", "occlusion map of the large cell"], ["?", "this page"],
];

export function showHelp() {
  const name = /^[\w./-]+$/.test(state.set.path) ? state.set.path : `'${state.set.path.replaceAll("'", "'\\''")}'`;
  byId("help-body").replaceChildren(make("h2", { textContent: "Keys" }),
    make("table", {}, ...KEYS.map(([key, text]) => make("tr", {}, make("td", {}, make("kbd", { textContent: key })), make("td", { textContent: text })))),
    make("p", { textContent: "A mark is on disk when it is shown. To train on the labels:" }),
    make("pre", { textContent: `fastcell split ${name}\nfastcell fit ${name}` }),
    make("p", {}, make("a", { href: "/marks.csv", textContent: "All marks as a table" })));
  byId("help").showModal();
}

const ACTS = {
  c: askClass, t: askTag, k: () => mark({ verdict: "keep" }), x: () => mark({ verdict: "drop" }),
  u: () => mark({ unsure: (numChosen() > 0 && !byId("large").open) || !factsHere()?.unsure }),
  Backspace: () => mark({ reset: true, unsure: false }), z: () => step(false), y: () => step(true), Z: () => step(true),
  n: () => nextCells(), a: chooseAll, f: () => { openSide(); byId("side").querySelector("input, select, button").focus(); },
  s: () => byId("sort").focus(), g: () => { openSide(); byId("plane-box").open = true; plane.focus(); },
  b: () => byId("stretch").click(), d: turnTheme, r: () => load(state.focus), "?": showHelp, "+": () => resize(16),
  "=": () => resize(16), "-": () => resize(-16), o: () => byId("occlusion")?.click(),
};

export function onKey(event) {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  const large = byId("large").open, act = () => event.preventDefault();
  if (event.key === "Escape") {
    if (document.querySelector("dialog[open]")) return;
    if (event.target === scroller) chooseNone(); else scroller.focus({ preventScroll: true });
    return;
  }
  if (typing || byId("ask").open || byId("help").open || !state.set) return;
  if (event.ctrlKey || event.metaKey) {
    if ("zyZ".includes(event.key)) { act(); step(event.key !== "z"); }
    if (event.key === "a") { act(); chooseAll(); }
    return;
  }
  if (event.altKey) return;
  const page = Math.max(1, Math.floor(scroller.clientHeight / grid.height)) * grid.columns;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, PageUp: -page, PageDown: page, Home: -state.view.count, End: state.view.count };
  const onControl = event.target.matches("button, summary, input, a");
  if (event.key in steps && (large || !onControl)) {
    act();
    if (large) goOn(steps[event.key]);
    else if (event.shiftKey) extend(steps[event.key]);
    else { moveTo(state.focus + steps[event.key]); state.anchor = state.focus; }
  } else if (/^[1-9]$/.test(event.key) && state.set.classes[event.key - 1]) { act(); label(state.set.classes[event.key - 1]); }
  else if (event.key === " " && !onControl) { act(); const one = factOf(state.focus); if (one) { toggle(one.id); refill(); addressSoon(); } }
  else if (event.key === "Enter" && !onControl && !large) { act(); openLarge(); }
  else if (ACTS[event.key]) { act(); ACTS[event.key](); }
}

function resize(by) { const size = byId("size"); size.value = Number(size.value) + by; size.dispatchEvent(new Event("input")); }
function openSide() { if (byId("side").hidden) byId("filters").click(); }
