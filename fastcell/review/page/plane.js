// The scatter plot of two columns and its gate, drawn with the pointer or by keys.

import { byId } from "./elements.js";
import { post } from "./server.js";
import { state } from "./state.js";
import { change, withoutTerm } from "./view.js";

const COLOURS = ["#999999", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#b8a800", "#7b5ea7", "#8c564b"];
export const plane = byId("plane"), pen = plane.getContext("2d");
let cloud = null, lasso = [], cross = null;

export async function showPlane() {
  if (byId("side").hidden || !byId("plane-box").open || !state.set.numbers.length) return;
  const names = [byId("plane-x").value, byId("plane-y").value];
  const answer = await post("/api/points", { view: state.view.view, x: names[0], y: names[1] });
  if (!answer.ok) return;
  const data = await answer.arrayBuffer(), num = new DataView(data).getUint32(0, true);
  const read = (Kind, start, size) => new Kind(data.slice(start, start + num * size));
  const values = [read(Float32Array, 4, 4), read(Float32Array, 4 + 4 * num, 4)];
  const isGate = (term) => term.gate && term.gate[0] === names[0] && term.gate[1] === names[1];
  const gate = state.query.terms.find(isGate), same = cloud && cloud.names.join() === names.join();
  // A gate leaves the picture as it was, so that one can draw another one beside it.
  const spans = gate && same ? cloud.spans : values.map(spanOf);
  if (gate) spans.forEach((span, axis) => {
    const corners = gate.points.map((point) => point[axis]);
    span[0] = Math.min(span[0], ...corners);
    span[1] = Math.max(span[1], ...corners);
  });
  cloud = { num, values, code: read(Int16Array, 4 + 12 * num, 2), names, spans };
  lasso = [];
  paintPlane();
}
function spanOf(values) {
  const sorted = Float32Array.from(values).sort(), num = sorted.length;
  const low = num ? sorted[Math.floor(num * 0.002)] : 0, high = num ? sorted[Math.ceil(num * 0.998) - 1] : 1;
  const edge = (high - low || 1) * 0.05;
  return [low - edge, high + edge];
}
function toPixel(axis, value) {
  const [low, high] = cloud.spans[axis], share = (value - low) / (high - low);
  return axis ? (1 - share) * plane.height : share * plane.width;
}
function fromPixel(axis, pixel) {
  const [low, high] = cloud.spans[axis];
  return low + (axis ? 1 - pixel / plane.height : pixel / plane.width) * (high - low);
}

function outline(points, close) {
  pen.beginPath();
  points.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (close) pen.closePath();
  pen.stroke();
}
export function paintPlane() {
  pen.clearRect(0, 0, plane.width, plane.height);
  if (!cloud) return;
  const dot = cloud.num > 20000 ? 1 : cloud.num > 2000 ? 2 : 3, style = getComputedStyle(document.documentElement);
  for (let i = 0; i < cloud.num; i++) {
    pen.fillStyle = COLOURS[cloud.code[i] % COLOURS.length];
    pen.fillRect(toPixel(0, cloud.values[0][i]) - dot / 2, toPixel(1, cloud.values[1][i]) - dot / 2, dot, dot);
  }
  pen.strokeStyle = style.getPropertyValue("--chosen");
  pen.lineWidth = 2;
  for (const term of state.query.terms) {
    if (term.gate && term.gate[0] === cloud.names[0] && term.gate[1] === cloud.names[1]) {
      outline(term.points.map(([x, y]) => [toPixel(0, x), toPixel(1, y)]), true);
    }
  }
  if (lasso.length) outline(lasso, false);
  if (!cross) return;
  pen.strokeStyle = style.getPropertyValue("--ink");
  outline([[cross[0] - 8, cross[1]], [cross[0] + 8, cross[1]]], false);
  outline([[cross[0], cross[1] - 8], [cross[0], cross[1] + 8]], false);
}
function closeGate() {
  const every = Math.ceil(lasso.length / 400), names = cloud.names;
  const points = lasso.filter((_, at) => at % every === 0).map(([x, y]) => [fromPixel(0, x), fromPixel(1, y)]);
  lasso = [];
  if (points.length < 3) { paintPlane(); return; }
  const others = withoutTerm((term) => term.gate && term.gate[0] === names[0] && term.gate[1] === names[1]);
  change([...others, { gate: names, points }]);
}
function onPlane(event) {
  const box = plane.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * plane.width, ((event.clientY - box.top) / box.height) * plane.height];
}
plane.addEventListener("pointerdown", (event) => { if (cloud) { plane.setPointerCapture(event.pointerId); lasso = [onPlane(event)]; cross = null; } });
plane.addEventListener("pointermove", (event) => { if (plane.hasPointerCapture(event.pointerId)) { lasso.push(onPlane(event)); paintPlane(); } });
plane.addEventListener("pointerup", () => { if (lasso.length) closeGate(); });
plane.addEventListener("keydown", (event) => {
  if (!cloud || event.ctrlKey || event.metaKey) return;
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, far = event.shiftKey ? 24 : 6;
  const here = cross || [plane.width / 2, plane.height / 2];
  if (steps[event.key]) {
    const most = [plane.width, plane.height];
    cross = here.map((value, axis) => Math.max(0, Math.min(value + steps[event.key][axis] * far, most[axis])));
  } else if (event.key === "Enter") lasso.push([...here]);
  else if (event.key === "Backspace") lasso.pop();
  else if (event.key === "c") { cross = null; closeGate(); } else return;
  event.preventDefault();
  event.stopPropagation();
  paintPlane();
});
plane.addEventListener("blur", () => { cross = null; paintPlane(); });
