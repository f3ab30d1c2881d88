// What the page offers beyond reading: sorted tables, hidden runs, larger figures and images.
"use strict";

const make = (name, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
};

// Links into a folded section open it; not every browser does that by itself.
const openTarget = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && document.getElementById(id);
  if (target) {
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", openTarget);
openTarget();

// Numbers as the page writes them: 1,234 or −0.4 or 26.8 M; null for anything else.
const UNITS = { k: 1e3, M: 1e6, G: 1e9 };
const numberIn = (text) => {
  const match = /^([+−-]?[\d,]*\.?\d+)\s*([kMG]\b)?/.exec(text.trim());
  if (!match) return null;
  return Number(match[1].replaceAll(",", "").replace("−", "-")) * (UNITS[match[2]] ?? 1);
};
const compare = (first, second) => {
  const [a, b] = [numberIn(first), numberIn(second)];
  return a !== null && b !== null ? a - b : first.localeCompare(second, undefined, { numeric: true });
};

const sortBy = (table, column, heading) => {
  const isRising = heading.ariaSort !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.ariaSort = isRising ? "ascending" : "descending";
  const body = table.tBodies[0];
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...body.rows].sort((first, second) => {
    if (!text(first) || !text(second)) return Boolean(text(second)) - Boolean(text(first)); // empty cells last
    return isRising ? compare(text(first), text(second)) : compare(text(second), text(first));
  });
  body.append(...rows);
};

for (const table of document.querySelectorAll("figure.table table")) {
  if (table.tBodies[0].rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = make("button", { type: "button", title: "Sort by this column" }, ...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, column, heading));
    heading.append(button);
  });
}

// A run is hidden in every table and figure. Its row is headed by its name, or by name and mode.
const runs = JSON.parse(document.body.dataset.runs);
const setRun = (run, isShown) => {
  for (const heading of document.querySelectorAll("figure.table tbody th")) {
    const name = heading.textContent.trim();
    if (name === run || name.startsWith(`${run} (`)) heading.parentElement.hidden = !isShown;
  }
  for (const kind of ["curves", "difference", "tree"]) {
    const figure = document.getElementById(`figure-${kind}-${run}`);
    if (figure) figure.hidden = !isShown;
  }
};
const tools = document.getElementById("tools");
if (runs.length > 1) {
  const boxes = runs.map((run) => {
    const box = make("input", { type: "checkbox", checked: true, value: run });
    box.addEventListener("change", () => setRun(run, box.checked));
    return make("label", {}, box, ` ${run}`);
  });
  tools.append(make("details", {}, make("summary", {}, "Choose the runs shown"), make("div", { className: "runs" }, ...boxes)));
}
const folds = [...document.querySelectorAll("section > details")];
const toggle = make("button", { type: "button" }, "Open every section");
toggle.addEventListener("click", () => {
  const isOpening = folds.some((fold) => !fold.open);
  for (const fold of folds) fold.open = isOpening;
  toggle.textContent = isOpening ? "Close every section" : "Open every section";
});
if (folds.length) tools.append(toggle);

// One dialog shows a figure or an image as large as the window.
const dialog = document.getElementById("enlarged");
const enlarge = (content, caption) => {
  dialog.querySelector("div").replaceChildren(content);
  dialog.querySelector("p").textContent = caption;
  dialog.showModal();
};
for (const button of dialog.querySelectorAll("button")) button.addEventListener("click", () => dialog.close());
for (const drawing of document.querySelectorAll(".drawing")) {
  const button = make("button", { type: "button", className: "enlarge" }, "Enlarge");
  button.setAttribute("aria-label", `Enlarge: ${drawing.getAttribute("aria-label")}`);
  button.addEventListener("click", () => {
    enlarge(drawing.querySelector("svg").cloneNode(true), drawing.getAttribute("aria-label"));
  });
  drawing.parentElement.querySelector("figcaption").append(" ", button);
}
for (const tile of document.querySelectorAll(".tile[title]")) {
  const image = tile.querySelector("img");
  const button = make("button", { type: "button", className: tile.className, title: tile.title }, image);
  button.addEventListener("click", () => enlarge(image.cloneNode(), tile.title));
  tile.replaceWith(button);
}
