// Sends a dropped, pasted or chosen image to this server, and shows what it answers.
"use strict";

const at = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1);
let latest = 0; // an answer that a newer image has overtaken is not shown

function made(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function tell(text, isError = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", isError);
}

function row([label, share]) {
  const line = made("tr");
  const bar = made("td", undefined, { class: "bar" });
  bar.append(made("meter", undefined, { min: 0, max: 1, value: share, "aria-label": `${label}: ${percent(share)} %` }));
  line.append(made("th", label, { scope: "row" }), made("td", percent(share), { class: "number" }), bar);
  return line;
}

function neighbour(sample) {
  const item = made("li");
  item.append(
    made("img", undefined, { src: `/samples/${sample.row}`, alt: `Training sample of ${sample.label}` }),
    made("span", sample.label.replaceAll("_", "_\u200b")), // a long name breaks after an underscore
    made("span", `distance ${sample.distance.toFixed(2)}`),
  );
  return item;
}

function show(answer) {
  at("square").src = answer.square;
  at("label").textContent = answer.label;
  at("path").textContent = answer.path
    .map((step) => `${step.node} ${percent(step.probability)} %`)
    .join(" › ");
  at("labels").replaceChildren(...Object.entries(answer.probabilities).map(row));
  at("neighbours").replaceChildren(...answer.neighbours.map(neighbour));
  at("result").hidden = false;
  at("near").hidden = answer.neighbours.length === 0;
}

async function predict(file) {
  const turn = ++latest;
  tell(`Predicting ${file.name || "the pasted image"} …`);
  try {
    const response = await fetch("/api/predict", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
    const answer = await response.json();
    if (turn !== latest) return;
    if (!response.ok) throw new Error(answer.error);
    show(answer);
    tell(`${answer.label}: ${percent(Object.values(answer.probabilities)[0])} %`);
  } catch (error) {
    if (turn !== latest) return;
    at("result").hidden = at("near").hidden = true;
    tell(error instanceof TypeError ? "The page is closed. Start it again: python -m train serve RUN" : error.message, true);
  }
}

function listen() {
  const drop = at("drop");
  at("file").addEventListener("change", (event) => {
    if (event.target.files.length) predict(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // a file beside the box must not replace the page
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) predict(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) predict(file);
  });
}

async function about() {
  const run = await (await fetch("/api/run")).json();
  document.title = `Predict an image with ${run.run}`;
  at("run").textContent = `Run ${run.run} (${run.method}), seed ${run.seed}: ${run.labels} labels, ${run.side} × ${run.side} pixels. ${run.without}`;
  at("about").textContent = `Of ${run.samples.toLocaleString("en")} training samples, those for which the run predicts the most similar probabilities. Distance 0: equal, 1: no label in common.`;
}

listen();
about();
