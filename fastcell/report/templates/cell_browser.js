"use strict";

// Light or dark: as the system is set, until the button is pressed.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const show = () => {
    const dark = chosen ?? system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = root.dataset.theme !== "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
})();

// Tables: a click on a heading sorts by that column, numbers by their value, "-" last.
(() => {
  const number = (text) => {
    const found = text.replace(/,/g, "").replace(/\u2212/g, "-").match(/^[^\d+-]*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
    return found ? Number(found[1]) : NaN;
  };
  const value = (row, column) => row.cells[column] ? row.cells[column].textContent.trim() : "";
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      if (heading.textContent.trim() === "") return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const filled = rows.map((row) => value(row, column)).filter((text) => text !== "" && text !== "-");
        const numeric = filled.length > 0 && filled.every((text) => !Number.isNaN(number(text)) && /^\W*[\d.]/.test(text));
        const compare = (a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          if (!numeric) return (down ? -1 : 1) * x.localeCompare(y, "en", { numeric: true });
          const [p, q] = [number(x), number(y)];
          if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
          return (down ? -1 : 1) * (p - q);
        };
        rows.sort(compare).forEach((row) => body.append(row));
      });
    });
  }
})();

// The cell browser.
(() => {
  const source = document.getElementById("cell-data");
  if (!source) return;
  const { classes, cells } = JSON.parse(source.textContent);
  const get = (id) => document.getElementById(id);
  const [filters, gallery, dialog] = [get("filters"), get("gallery"), get("cell")];
  const perPage = 48;
  let page = 0;
  for (const id of ["true", "called"]) {
    classes.forEach((name, index) => get(id).add(new Option(name, String(index))));
  }
  const percent = (chance) => (100 * chance).toFixed(chance > 0.995 && chance < 1 ? 2 : 0) + " %";
  const confidence = (cell) => cell.p[cell.called];

  const chosen = () => {
    const [isTrue, isCalled, kind, order] = ["true", "called", "kind", "order"].map((id) => get(id).value);
    const words = get("search").value.trim().toLowerCase();
    const found = cells.filter((cell) =>
      (isTrue === "" || cell.true === Number(isTrue)) &&
      (isCalled === "" || cell.called === Number(isCalled)) &&
      (kind === "" || (cell.true !== cell.called) === (kind === "wrong")) &&
      (words === "" || (cell.key + " " + cell.group).toLowerCase().includes(words)));
    const by = {
      sure: (a, b) => confidence(b) - confidence(a),
      unsure: (a, b) => confidence(a) - confidence(b),
      key: (a, b) => a.key.localeCompare(b.key, "en", { numeric: true }),
    };
    return found.sort(by[order]);
  };

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const card = (cell) => {
    const wrong = cell.true !== cell.called;
    const button = make("button", "card");
    button.type = "button";
    const frame = make("span", "frame");
    const image = make("img", "");
    image.src = cell.card || cell.image;
    image.alt = "";
    image.className = "close";
    frame.append(image);
    const name = make("span", "name");
    name.append(make("span", "", classes[cell.true]));
    name.append(make("span", wrong ? "is-wrong" : "is-right", (wrong ? " \u2192 " : " \u2713 ") +
      (wrong ? classes[cell.called] + " " : "") + percent(confidence(cell))));
    button.append(frame, name, make("span", "key", cell.key));
    button.addEventListener("click", () => open(cell));
    return button;
  };

  const open = (cell) => {
    get("cell-name").textContent = cell.key;
    const image = get("cell-image");
    image.src = cell.image;
    image.alt = cell.key;
    image.style.width = Math.min(560, 4 * cell.width) + "px";
    get("cell-text").textContent =
      `True class ${classes[cell.true]}, predicted ${classes[cell.called]}. ${cell.height} x ${cell.width} px` +
      (cell.group ? `, group ${cell.group}.` : ".");
    const rows = cell.p.map((chance, index) => [chance, classes[index]]).sort((a, b) => b[0] - a[0]);
    get("cell-chances").replaceChildren(...rows.map(([chance, name]) => {
      const row = document.createElement("tr");
      row.append(make("td", "", name), make("td", "number", chance.toFixed(4)));
      return row;
    }));
    dialog.showModal();
  };

  const show = () => {
    const found = chosen();
    const pages = Math.max(1, Math.ceil(found.length / perPage));
    page = Math.max(0, Math.min(page, pages - 1));
    gallery.replaceChildren(...found.slice(page * perPage, (page + 1) * perPage).map(card));
    get("count").textContent = `${found.length} ${found.length === 1 ? "cell" : "cells"} of the ${cells.length} here`;
    get("pages").hidden = pages === 1;
    get("place").textContent = `page ${page + 1} of ${pages}`;
    get("back").disabled = page === 0;
    get("next").disabled = page === pages - 1;
  };

  const restart = () => { page = 0; show(); };
  filters.hidden = false;
  filters.addEventListener("input", restart);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(restart));
  get("back").addEventListener("click", () => { page -= 1; show(); });
  get("next").addEventListener("click", () => { page += 1; show(); });
  get("confusion")?.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.disabled) return;
    get("true").value = button.dataset.true;
    get("called").value = button.dataset.called;
    get("kind").value = "";
    get("search").value = "";
    restart();
    filters.scrollIntoView();
  });
  show();
})();
