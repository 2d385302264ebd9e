// The gallery: only the cells in sight have elements; their pictures come in sheets of 64 thumbnails.

import { choose, showStatus } from "./choice.js";
import { byId, make } from "./elements.js";
import { openLarge } from "./large.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";

const CAPTION = 46, BORDER = 4, MOST_HEIGHT = 8e6;
export const scroller = byId("scroller");
const stage = byId("stage"), spacer = byId("spacer");
export const grid = { side: 112, columns: 1, width: 120, height: 160, rows: 0, top: 0, tall: 0, last: 0 };
const tiles = []; // pool of elements
export const facts = new Map(); // block of the view -> facts of its cells
const sheets = new Map(); // name of a sheet -> its picture, or the request on its way
let drawn = false, settle = 0;

function tileSize() {
  const wanted = grid.side * Math.min(2, devicePixelRatio);
  return state.set.sizes.find((size) => size >= wanted) || state.set.sizes[state.set.sizes.length - 1];
}
function hasWords() { return byId("details").checked && grid.side >= 80; }
function firstPlace() { return Math.floor(grid.top / grid.height) * grid.columns; }
function overlap() { return Math.max(0, grid.tall - scroller.clientHeight); }
function ratio() { return overlap() / Math.max(1, spacer.offsetHeight - scroller.clientHeight); }
function clampTop(top) { return Math.max(0, Math.min(top, overlap())); }

export function layOut(place = firstPlace()) {
  grid.side = Number(byId("size").value);
  grid.width = grid.side + BORDER + 2;
  grid.height = grid.side + BORDER + 2 + (hasWords() ? CAPTION : 0);
  grid.columns = Math.max(1, Math.floor(scroller.clientWidth / grid.width));
  grid.rows = Math.ceil(state.view.count / grid.columns);
  grid.tall = grid.rows * grid.height;
  spacer.style.height = `${Math.min(MOST_HEIGHT, Math.max(grid.tall, 1))}px`;
  const wanted = (Math.ceil(scroller.clientHeight / grid.height) + 2) * grid.columns;
  while (tiles.length < wanted) tiles.push(newTile());
  tiles.splice(wanted).forEach((tile) => tile.node.remove());
  tiles.forEach((tile) => { tile.place = -1; });
  byId("empty").hidden = state.view.count > 0;
  scrollToTop(Math.floor(place / grid.columns) * grid.height);
}

// A page cannot be taller than some million pixels: beyond MOST_HEIGHT the place of the scroll bar is scaled.
export function scrollToTop(top) {
  grid.top = clampTop(top);
  scroller.scrollTop = grid.tall > MOST_HEIGHT ? grid.top / ratio() : grid.top;
  grid.last = scroller.scrollTop;
  drawSoon();
}
scroller.addEventListener("scroll", () => {
  const now = scroller.scrollTop, step = now - grid.last, end = spacer.offsetHeight - scroller.clientHeight - 1;
  if (step === 0) return;
  grid.last = now;
  if (grid.tall <= MOST_HEIGHT) grid.top = now;
  else if (Math.abs(step) < scroller.clientHeight && now > 0 && now < end) grid.top = clampTop(grid.top + step);
  else grid.top = clampTop(now * ratio());
  drawSoon();
  clearTimeout(settle);
  settle = setTimeout(() => {
    if (grid.tall > MOST_HEIGHT) { scroller.scrollTop = grid.top / ratio(); grid.last = scroller.scrollTop; }
  }, 160);
}, { passive: true });

function drawSoon() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => { drawn = false; draw(); });
}

function newTile() {
  const badges = make("div", { className: "badges" }), bar = make("div", { className: "bar", hidden: true }, make("span"));
  const picture = make("div", { className: "picture" }, badges, bar);
  const said = make("div", { className: "said" }), other = make("div", { className: "other" });
  const key = make("div", { className: "other" }), words = make("div", { className: "words" }, said, other, key);
  const node = make("div", { className: "tile", role: "option" }, picture, words);
  const tile = { node, picture, badges, bar, words, said, other, key, place: -1, waits: true };
  node.addEventListener("click", (event) => choose(tile.place, event));
  node.addEventListener("dblclick", () => openLarge());
  stage.append(node);
  return tile;
}

export function visible() {
  const first = Math.floor(grid.top / grid.height);
  const last = Math.min(grid.rows - 1, Math.floor((grid.top + scroller.clientHeight) / grid.height));
  return [first * grid.columns, Math.min(state.view.count, (last + 1) * grid.columns)];
}

function draw() {
  const [first, end] = visible(), used = new Set();
  for (let place = first; place < end; place++) {
    const tile = tiles[place % tiles.length];
    used.add(tile);
    const row = Math.floor(place / grid.columns), column = place % grid.columns;
    tile.node.style.transform = `translate(${column * grid.width}px, ${row * grid.height - grid.top}px)`;
    if (tile.place !== place || tile.waits) { tile.place = place; fill(tile); }
    tile.node.hidden = false;
  }
  for (const tile of tiles) if (!used.has(tile)) { tile.node.hidden = true; tile.place = -1; }
  fetchVisible(first, end);
}

function sheetName(block) {
  const flag = (id) => (byId(id).checked ? 1 : 0);
  return `${state.view.view}/${block}?size=${tileSize()}&stretch=${flag("stretch")}&common=${flag("common")}`;
}

function fetchVisible(first, end) {
  if (!state.view.count) return;
  const blocks = new Set(), last = Math.floor((end - 1) / state.set.sheet_cells);
  for (let block = Math.floor(first / state.set.sheet_cells); block <= last; block++) blocks.add(block);
  const names = new Set([...blocks].map(sheetName));
  for (const [name, sheet] of sheets) if (sheet.stop && !names.has(name)) { sheet.stop.abort(); sheets.delete(name); }
  for (const [block, one] of facts) if (one.stop && !blocks.has(block)) { one.stop.abort(); facts.delete(block); }
  for (const block of blocks) { wantSheet(sheetName(block)); wantFacts(block); }
  for (const [name, sheet] of sheets) {
    if (sheets.size <= 240) break;
    if (!names.has(name) && sheet.url) { URL.revokeObjectURL(sheet.url); sheets.delete(name); }
  }
  for (const block of facts.keys()) { if (facts.size <= 240) break; if (!blocks.has(block)) facts.delete(block); }
}

async function wantSheet(name) {
  if (sheets.has(name)) return;
  const mine = { stop: new AbortController() };
  sheets.set(name, mine);
  try {
    const answer = await fetch(`/sheet/${name}`, { signal: mine.stop.signal });
    if (!answer.ok) throw new DOMException("the view has changed", "AbortError");
    const picture = new Image(), url = URL.createObjectURL(await answer.blob());
    picture.src = url;
    await picture.decode();
    if (sheets.get(name) !== mine) { URL.revokeObjectURL(url); return; }
    sheets.set(name, { url, rows: Math.round(picture.naturalHeight / tileSize()) });
    drawSoon();
  } catch (error) { if (sheets.get(name) === mine) sheets.delete(name); fail(error); }
}

export async function wantFacts(block, before = undefined) {
  if (facts.has(block)) return;
  const mine = { stop: new AbortController(), before };
  facts.set(block, mine);
  try {
    const where = { view: state.view.view, first: block * state.set.sheet_cells, count: state.set.sheet_cells };
    const rows = await ask("rows", where, mine.stop.signal);
    if (facts.get(block) !== mine) return;
    facts.set(block, { rows });
    tiles.forEach((tile) => { if (Math.floor(tile.place / state.set.sheet_cells) === block) tile.waits = true; });
    if (Math.floor(state.focus / state.set.sheet_cells) === block) showStatus();
    drawSoon();
  } catch (error) { if (facts.get(block) === mine) facts.delete(block); fail(error); }
}

export function factOf(place) {
  const block = facts.get(Math.floor(place / state.set.sheet_cells)), at = place % state.set.sheet_cells;
  const rows = block && (block.rows || block.before);
  if (!rows || rows.id[at] === undefined) return null;
  const one = {};
  for (const [name, values] of Object.entries(rows)) one[name] = values[at];
  return one;
}

// The cell_id at a place, also where its facts are not there yet.
export async function idAt(place) {
  const one = factOf(place);
  return one ? one.id : Number((await ask("ids", { view: state.view.view, first: place, last: place })).cells);
}

function fill(tile) {
  const place = tile.place, side = grid.side;
  const block = Math.floor(place / state.set.sheet_cells), at = place % state.set.sheet_cells;
  const sheet = sheets.get(sheetName(block)), one = factOf(place), there = Boolean(sheet && sheet.url);
  tile.waits = !(there && one);
  tile.node.style.width = `${side + BORDER}px`;
  tile.node.style.height = `${grid.height - 2}px`;
  tile.picture.style.width = tile.picture.style.height = `${side}px`;
  tile.picture.style.backgroundImage = there ? `url("${sheet.url}")` : "none";
  if (there) {
    tile.picture.style.backgroundSize = `${8 * side}px ${sheet.rows * side}px`;
    tile.picture.style.backgroundPosition = `${-(at % 8) * side}px ${-Math.floor(at / 8) * side}px`;
  }
  tile.words.hidden = !hasWords();
  tile.node.id = `cell-${place}`;
  tile.node.setAttribute("aria-posinset", place + 1);
  tile.node.setAttribute("aria-setsize", state.view.count);
  tile.node.classList.toggle("here", place === state.focus);
  const isChosen = one !== null && (state.wholeView || state.chosen.has(one.id));
  tile.node.classList.toggle("chosen", isChosen);
  tile.node.setAttribute("aria-selected", isChosen);
  tile.badges.replaceChildren();
  tile.bar.hidden = true;
  tile.node.classList.toggle("dropped", Boolean(one && one.drop));
  if (!one) { tile.said.textContent = tile.other.textContent = tile.key.textContent = tile.node.title = ""; return; }
  const flags = [
    [one.by_hand, "✎", "label by hand"], [one.unsure, "?", "unsure"], [one.drop, "✕", "dropped"],
    [one.unlike, "!", "unlike training"], [one.tags.length, "#", one.tags.join(", ")],
  ];
  for (const [shown, text, title] of flags) if (shown) tile.badges.append(make("span", { textContent: text, title }));
  tile.said.textContent = one.class || "(no class)";
  if (one.called) {
    const odd = one.class && one.called !== one.class, sure = one.confidence === null ? "" : one.confidence.toFixed(2);
    tile.said.append(make("span", { className: odd ? "odds" : "other", textContent: ` → ${one.called} ${sure}` }));
  }
  tile.other.textContent = [one.group, one.fault, ...one.tags.map((tag) => `#${tag}`)].filter(Boolean).join(" · ");
  tile.key.textContent = one.key;
  tile.node.title = [one.key, one.group, one.class, one.called, one.fault].filter(Boolean).join("\n");
  showScale(tile, one);
}

function showScale(tile, one) {
  if (!one.um_per_px || grid.side < 80) return;
  const raw = byId("common").checked ? state.set.common_side : Math.max(one.height, one.width);
  const perUm = grid.side / raw / one.um_per_px;
  const length = [1, 2, 5, 10, 20, 50, 100].filter((um) => um * perUm <= grid.side * 0.45).pop();
  if (!length) return;
  tile.bar.hidden = false;
  tile.bar.style.width = `${length * perUm}px`;
  tile.bar.firstChild.textContent = `${length} µm`;
}

export function refill() { tiles.forEach((tile) => { tile.waits = true; }); drawSoon(); showStatus(); }
