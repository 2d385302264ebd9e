// Elements of the page and short texts. Text of others is shown through textContent alone.

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

export function say(text) { byId("message").textContent = text; }
export function number(value) { return value.toLocaleString("en"); }
export function short(value) { return Number(value.toPrecision(4)); }

export function keep(name, value) { try { localStorage.setItem(`fastcell-${name}`, value); } catch { /* the page works without */ } }
export function kept(name) { try { return localStorage.getItem(`fastcell-${name}`); } catch { return null; } }
