// Charts that filter: names with their counts, and histograms that one brushes.

import { byId, make, number, short } from "./elements.js";
import { ask } from "./server.js";
import { state } from "./state.js";
import { change, withoutTerm } from "./view.js";

export async function showCharts() {
  if (byId("side").hidden) return;
  const names = state.charts.filter((name) => state.set.categories.includes(name) || state.set.numbers.includes(name));
  const found = await ask("histograms", { view: state.view.view, columns: names });
  byId("histograms").replaceChildren(
    ...names.map((name) => (found[name].names ? categoryChart(name, found[name]) : numberChart(name, found[name]))));
}

function categoryChart(name, counts) {
  const term = state.query.terms.find((one) => one.column === name && one.is);
  const list = make("ul", {}, ...counts.names.map((value, at) => {
    const box = make("input", { type: "checkbox", checked: Boolean(term && term.is.includes(value)) });
    box.addEventListener("change", () => {
      const now = new Set(term ? term.is : []), others = withoutTerm((one) => one === term);
      if (box.checked) now.add(value); else now.delete(value);
      change(now.size ? [...others, { column: name, is: [...now] }] : others);
    });
    const words = [make("span", { textContent: value || "(none)" }), make("span", { textContent: number(counts.view[at]) })];
    return make("li", {}, make("label", {}, box, ...words));
  }));
  return make("div", { className: "chart" }, make("h3", { textContent: name }), list);
}

function numberChart(name, counts) {
  const term = state.query.terms.find((one) => one.column === name && (one.from !== undefined || one.to !== undefined));
  const canvas = make("canvas", { width: 264, height: 56, role: "img", "aria-label": `Histogram of ${name}; drag to choose a range` });
  const paper = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const place = (value) => ((value - counts.low) / (counts.high - counts.low)) * canvas.width;
  const most = Math.max(1, ...counts.all.map(Math.sqrt)), step = canvas.width / counts.all.length;
  let brush = term ? [place(term.from ?? counts.low), place(term.to ?? counts.high)] : null;
  const paint = () => {
    paper.clearRect(0, 0, canvas.width, canvas.height);
    for (const [values, colour] of [[counts.all, "--line"], [counts.view, "--accent"]]) {
      paper.fillStyle = style.getPropertyValue(colour);
      values.forEach((value, at) => {
        const high = (Math.sqrt(value) / most) * canvas.height;
        paper.fillRect(at * step, canvas.height - high, step - 1, high);
      });
    }
    if (!brush) return;
    paper.strokeStyle = style.getPropertyValue("--chosen");
    paper.lineWidth = 2;
    paper.strokeRect(Math.min(...brush), 1, Math.abs(brush[1] - brush[0]), canvas.height - 2);
  };
  const at = (event) => { const box = canvas.getBoundingClientRect(); return ((event.clientX - box.left) / box.width) * canvas.width; };
  const value = (x) => Math.fround(counts.low + (x / canvas.width) * (counts.high - counts.low));
  const limit = (low, high) => {
    const others = withoutTerm((one) => one === term), next = { column: name };
    if (low !== null) next.from = low;
    if (high !== null) next.to = high;
    change(low === null && high === null ? others : [...others, next]);
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); brush = [at(event), at(event)]; paint(); });
  canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) { brush[1] = at(event); paint(); } });
  canvas.addEventListener("pointerup", () => {
    const [a, b] = [Math.min(...brush), Math.max(...brush)];
    if (b - a < 3) limit(null, null);
    else limit(a <= 0 ? null : value(a), b >= canvas.width ? null : value(b));
  });
  const field = (which, hint) => {
    const given = term && term[which] !== undefined && term[which] !== null;
    const box = make("input", { type: "number", step: "any", value: given ? short(term[which]) : "", placeholder: String(short(hint)), "aria-label": `${name} ${which}` });
    box.addEventListener("change", () => {
      const now = box.value === "" ? null : Number(box.value), other = (side) => (term ? term[side] ?? null : null);
      limit(which === "from" ? now : other("from"), which === "to" ? now : other("to"));
    });
    return box;
  };
  paint();
  const fields = make("div", { className: "pair" }, field("from", counts.low), field("to", counts.high));
  return make("div", { className: "chart" }, make("h3", { textContent: name }), canvas, fields);
}
