// The browse page: the address holds the filters, the grid shows their posts, keys move in it.
import { element, openDetail, tile } from "/detail.js";

const FILTERS = [
  "label", "tags", "split", "decision", "stage", "reason",
  "run", "seed", "true", "predicted", "verdict",
];
const CURSORS = ["after", "before"];
const find = (id) => document.getElementById(id);
const form = find("filters"), grid = find("grid"), dialog = find("detail");
let loading = new AbortController();
let page = { tiles: [], previous: null, next: null };
let shown = null; // the query of the grid that is on the screen
let runs = [];

/** Returns the parameters of the address that `names` lists, those with a value. */
function chosen(names) {
  const all = new URLSearchParams(location.search);
  return new URLSearchParams(names.filter((name) => all.get(name)).map((name) => [name, all.get(name)]));
}

function address(parameters) {
  const text = parameters.toString();
  return text ? `/?${text}` : "/";
}

function visit(parameters) {
  history.pushState(null, "", address(parameters));
  return show();
}

async function json(path, signal) {
  const answer = await fetch(path, { signal });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function report(error) {
  if (error.name === "AbortError") return;
  find("summary").textContent = "";
  find("summary").append(element("span", { class: "bad" }, error.message));
}

/** Shows what the address says: the filters, the grid, and the post of `post`. */
async function show() {
  const query = chosen([...FILTERS, ...CURSORS]);
  fillForm(query);
  if (query.toString() !== shown) {
    loading.abort();
    loading = new AbortController();
    grid.setAttribute("aria-busy", "true");
    try {
      page = await json(`/api/posts?${query}`, loading.signal);
      shown = query.toString();
      drawGrid();
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = null;
      page = { tiles: [], previous: null, next: null };
      drawGrid();
      report(error);
    }
    grid.setAttribute("aria-busy", "false");
    showConfusions(query);
  }
  await showPost();
}

async function showPost() {
  const post = new URLSearchParams(location.search).get("post");
  if (!/^\d{1,19}$/.test(post ?? "")) {
    if (dialog.open) dialog.close();
    return;
  }
  try {
    openDetail(dialog, await json(`/api/posts/${post}`), link);
  } catch (error) {
    report(error);
  }
}

/** Returns the address of a post over the present grid. */
function link(post) {
  const query = chosen([...FILTERS, ...CURSORS]);
  query.set("post", post);
  return address(query);
}

function drawGrid() {
  grid.className = "tiles";
  grid.replaceChildren(...page.tiles.map((entry) => element("li", {}, tile(entry, link))));
  const last = page.first + page.tiles.length - 1;
  const number = (value) => value.toLocaleString("en");
  find("summary").textContent = page.count
    ? `${number(page.first)} to ${number(last)} of ${number(page.count)} post${page.count > 1 ? "s" : ""}`
    : page.count === 0 ? "No post fits these filters." : "";
  find("previous").disabled = !page.previous;
  find("next").disabled = !page.next;
}

async function showConfusions(query) {
  const panel = find("confusions"), run = query.get("run");
  panel.hidden = !run;
  if (!run) return;
  const asked = new URLSearchParams({ run, split: query.get("split") || "test" });
  if (query.get("seed")) asked.set("seed", query.get("seed"));
  const pairs = await json(`/api/confusions?${asked}`).catch(() => []);
  panel.querySelector("ol").replaceChildren(...pairs.map((pair) => {
    const cell = new URLSearchParams(asked);
    cell.set("true", pair.true);
    cell.set("predicted", pair.predicted);
    return element("li", {}, element("a", { href: address(cell) }, `${pair.true} → ${pair.predicted}`), ` ${pair.predictions}`);
  }));
}

function fillForm(query) {
  for (const name of FILTERS) {
    const field = form.elements[name];
    if (field) setValue(field, query.get(name) ?? "");
  }
  const [stage, reason] = [query.get("stage") ?? "", query.get("reason") ?? ""];
  setValue(form.elements.why, stage || reason ? `${stage}/${reason}` : "");
  if (stage || reason) form.elements.decision.value = "refused";
  const seeds = runs.find((entry) => entry.run === query.get("run"))?.seeds ?? [...new Set(runs.flatMap((entry) => entry.seeds))];
  offer(form.elements.seed, seeds.map((seed) => [seed, seed]));
  setValue(form.elements.seed, query.get("seed") ?? "");
}

/** Sets a field; a value that a list does not offer becomes one of its options. */
function setValue(field, value) {
  if (field instanceof HTMLSelectElement && value && ![...field.options].some((option) => option.value === value)) {
    field.append(element("option", { value }, value.replace("/", ": ")));
  }
  field.value = value;
}

/** Keeps the first option of a list and replaces the others. */
function offer(field, entries) {
  field.replaceChildren(field.options[0], ...entries.map(([value, text]) => element("option", { value }, text)));
}

function readForm() {
  const query = new URLSearchParams();
  for (const name of FILTERS) {
    const value = form.elements[name]?.value.trim();
    if (value) query.set(name, value);
  }
  const why = form.elements.why.value;
  if (why) {
    const [stage, reason] = why.split("/");
    if (stage) query.set("stage", stage);
    if (reason) query.set("reason", reason);
    query.delete("decision");
  }
  return query;
}

async function fillChoices() {
  const offered = await json("/api/choices");
  const count = (value) => value.toLocaleString("en");
  find("build").textContent = `${count(offered.build.samples)} samples of ${count(offered.build.posts)} posts, build ${offered.build.root}`;
  find("labels").replaceChildren(...offered.labels.map((entry) => element("option", { value: entry.label }, `${count(entry.samples)} samples`)));
  offer(form.elements.split, offered.splits.map((entry) => [entry.split, `${entry.split} (${count(entry.samples)})`]));
  const stages = [...new Set(offered.reasons.map((entry) => entry.stage))];
  form.elements.why.replaceChildren(form.elements.why.options[0], ...stages.map((stage) => element(
    "optgroup", { label: stage },
    element("option", { value: `${stage}/` }, `any of ${stage}`),
    ...offered.reasons.filter((entry) => entry.stage === stage).map((entry) => element("option", { value: `${stage}/${entry.reason}` }, `${entry.reason} (${count(entry.posts)})`)),
  )));
  runs = offered.runs;
  find("predictions").hidden = !runs.length;
  offer(form.elements.run, runs.map((entry) => [entry.run, `${entry.run} (${count(entry.posts)})`]));
  find("notices").replaceChildren(...offered.notices.map((text) => element("p", {}, text)));
}

function turn(name, post) {
  if (!post) return;
  const query = chosen(FILTERS);
  query.set(name, post);
  visit(query).then(() => window.scrollTo(0, 0));
}

/** Moves the focus in the grid by a number of tiles, or by rows. */
function move(columns, rows) {
  const links = [...grid.querySelectorAll("a")];
  if (!links.length) return;
  const now = links.indexOf(document.activeElement);
  const width = links.filter((entry) => entry.offsetTop === links[0].offsetTop).length;
  const next = now < 0 ? 0 : now + columns + rows * width;
  if (next >= 0 && next < links.length) links[next].focus();
}

/** Opens the neighbour of the open post in the grid. */
function step(distance) {
  const post = new URLSearchParams(location.search).get("post");
  const index = page.tiles.findIndex((entry) => entry.post_id === post) + distance;
  const neighbour = index >= 0 ? page.tiles[index] : undefined;
  if (!neighbour) return;
  history.replaceState(null, "", link(neighbour.post_id));
  showPost();
}

const MOVES = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  h: [-1, 0], l: [1, 0], k: [0, -1], j: [0, 1],
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const [columns, rows] = MOVES[event.key] ?? [0, 0];
  if (dialog.open) {
    if (columns || "jk".includes(event.key)) {
      event.preventDefault();
      step(columns || rows);
    }
    return;
  }
  if (columns || rows) move(columns, rows);
  else if (event.key === "/") form.elements.label.focus();
  else if (event.key === "n") turn("after", page.next);
  else if (event.key === "p") turn("before", page.previous);
  else return;
  event.preventDefault();
});

// Links of this page change the address without loading the page again.
document.addEventListener("click", (event) => {
  const target = event.target.closest("a");
  const is_plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button);
  if (!target || !is_plain || target.origin !== location.origin || target.pathname !== "/") return;
  event.preventDefault();
  visit(new URLSearchParams(target.search));
});

dialog.addEventListener("close", () => {
  const post = new URLSearchParams(location.search).get("post");
  if (post) visit(chosen([...FILTERS, ...CURSORS]));
  if (post) [...grid.querySelectorAll("a")].find((entry) => entry.dataset.post === post)?.focus();
});

// One tag of several is completed: the list offers the words before it with each completion.
form.elements.tags.addEventListener("input", async (event) => {
  const words = event.target.value.split(" ");
  const word = words.pop(), prefix = word.replace(/^-/, "");
  const before = [...words, ""].join(" ") + (word === prefix ? "" : "-");
  if (!prefix) return;
  const offered = await json(`/api/tags?${new URLSearchParams({ prefix })}`).catch(() => []);
  find("tag-names").replaceChildren(...offered.map((entry) => element("option", { value: before + entry.name })));
});

form.addEventListener("change", (event) => {
  if (event.target.name === "decision") form.elements.why.value = "";
  if (event.target.name === "run") form.elements.seed.value = "";
  visit(readForm());
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  visit(readForm());
});
form.addEventListener("reset", (event) => {
  event.preventDefault();
  visit(new URLSearchParams());
});
find("previous").addEventListener("click", () => turn("before", page.previous));
find("next").addEventListener("click", () => turn("after", page.next));
window.addEventListener("popstate", show);

show();
fillChoices().then(() => fillForm(chosen(FILTERS)), report);
