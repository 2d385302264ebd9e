// A dialog that asks for a class or a tag, old or new.

import { numChosen } from "./choice.js";
import { byId, make } from "./elements.js";
import { factsHere, largeCell } from "./large.js";
import { label, mark } from "./marks.js";
import { state } from "./state.js";

function askWord(title, names, then) {
  const box = byId("ask"), text = byId("ask-text"), list = byId("ask-list");
  let shown = [], at = 0;
  const finish = (name) => { box.close(); if (name) then(name); };
  const update = () => {
    const typed = text.value.trim(), low = typed.toLowerCase();
    shown = names.filter((name) => name.toLowerCase().includes(low)).slice(0, 50);
    if (typed && !names.includes(typed)) shown.push(typed);
    at = Math.min(at, Math.max(0, shown.length - 1));
    list.replaceChildren(...shown.map((name, place) => make("li",
      { role: "option", "aria-selected": place === at, onclick: () => finish(name) }, names.includes(name) ? name : `new: ${name}`)));
  };
  byId("ask-title").textContent = title;
  text.value = "";
  text.oninput = () => { at = 0; update(); };
  text.onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { at = Math.max(0, Math.min(shown.length - 1, at + by)); update(); event.preventDefault(); }
    if (event.key === "Enter") { event.preventDefault(); finish(shown[at]); }
  };
  update();
  box.showModal();
  text.focus();
}

export function askClass() { askWord("Class", state.set.classes, label); }
export function askTag() {
  askWord("Tag; one that the cell has is taken off", state.set.tags, (name) => {
    const several = numChosen() > 0 && largeCell() < 0, has = !several && factsHere()?.tags.includes(name);
    if (!state.set.tags.includes(name)) state.set.tags.push(name);
    mark(has ? { untag: name } : { tag: name });
  });
}
