// Tiles, and the dialog of one post: every text of the catalog becomes a text node, never markup.

/** Returns an element with attributes and children; a child that is no element becomes text. */
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** Returns the link of one tile; `link` gives the address of a post. */
export function tile(entry, link) {
  const source = imageAddress(entry);
  const shown = source
    ? image(source, `${entry.label ?? "no label"}, post ${entry.post_id}`)
    : element("span", { class: "blank" }, "not downloaded");
  const lines = [element("span", {}, entry.label ?? `post ${entry.post_id}`)];
  if (entry.predicted) lines.push(element("span", { class: entry.predicted.every((name) => name === entry.label) ? "good" : "bad" }, `→ ${entry.predicted.join(", ")}`));
  if (entry.reasons.length) lines.push(element("span", { class: "bad" }, entry.reasons.join(", ")));
  else lines.push(element("span", { class: "muted" }, entry.split ?? "kept"));
  const title = [`post ${entry.post_id}`, entry.label, entry.split, ...entry.reasons].filter(Boolean).join(", ");
  return element("a", { class: "tile", href: link(entry.post_id), "data-post": entry.post_id, title }, shown, ...lines);
}

function imageAddress(entry) {
  if (entry.data) return entry.data;
  if (entry.square) return `/squares/${entry.post_id}?v=${entry.square}`;
  if (entry.original) return `/originals/${entry.post_id}?v=${entry.original}`;
  return null;
}

/** Returns an image; where its bytes cannot be read, the reason takes its place. */
function image(source, alt) {
  const shown = element("img", { src: source, alt, loading: "lazy", decoding: "async" });
  shown.addEventListener("error", async () => {
    const answer = await fetch(source).then((reply) => reply.json()).catch(() => ({}));
    shown.replaceWith(element("span", { class: "blank bad", title: answer.error ?? "" }, "unreadable image"));
  });
  return shown;
}

/** Shows the facts of one post in the dialog. */
export function openDetail(dialog, facts, link) {
  const { tile: entry, post } = facts;
  const words = [`Post ${entry.post_id}`, entry.label, entry.split, post.white_background ? "white background" : null];
  const title = element("h2", { id: "title" }, words.filter(Boolean).join(" · "));
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const strip = (name, entries) => entries.length
    ? [element("h3", {}, name), element("ul", { class: "tiles" }, ...entries.map((other) => element("li", {}, tile(other, link), relation(other))))]
    : [];
  const parent = facts.parent_id && !facts.parent.length ? [element("h3", {}, "Parent"), element("p", {}, `Post ${facts.parent_id}, which is not listed`)] : [];
  const left = element("div", {}, ...figures(entry, post, facts.measures), ...measures(facts.measures), ...source(post));
  const right = element(
    "div", {},
    ...section("Reasons of refusal", ["stage", "reason", "measured", "threshold"], facts.refusals),
    ...section("Stages", ["step", "outcome", "detail"], facts.journey),
    ...predictions(facts.predictions),
    ...strip("Duplicate group", facts.group),
    ...strip("Linked posts, kept in one split", facts.links),
    ...strip("Parent", facts.parent), ...parent,
    ...strip("Children", facts.children),
    ...tags(facts.tags),
  );
  dialog.replaceChildren(element("div", { class: "top" }, title, close), element("div", { class: "columns" }, left, right));
  dialog.dataset.post = entry.post_id;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTo(0, 0);
}

function figures(entry, post, measured) {
  const shown = [];
  const figure = (kind, source, caption) => element("figure", { class: kind }, image(source, caption), element("figcaption", {}, caption));
  if (entry.square) {
    const position = post.shard ? `${post.shard} at byte ${post.byte_offset}` : "not packed";
    shown.push(figure("square", `/squares/${entry.post_id}?v=${entry.square}`, `Normalised, as networks see it: ${position}`));
  }
  if (entry.original) {
    const size = measured?.width ? `, ${measured.width} × ${measured.height} ${measured.file_format}` : "";
    shown.push(figure("original", `/originals/${entry.post_id}?v=${entry.original}`, `As downloaded${size}`));
  }
  if (!shown.length) shown.push(element("p", { class: "muted" }, "The image of this post was not downloaded."));
  return shown;
}

function relation(other) {
  const words = [
    other.link, other.representative ? "the one kept" : null,
    other.distance == null ? null : `${other.distance} bits`,
    other.inliers == null ? null : `${other.inliers} keypoints`, other.mirrored ? "mirrored" : null,
  ];
  const text = words.filter(Boolean).join(", ");
  return element("small", { class: "muted" }, text);
}

function predictions(rows) {
  const shown = rows.map((row) => {
    const cell = new URLSearchParams({ run: row.run, seed: row.seed, true: row.true, predicted: row.predicted });
    return {
      run: row.run, seed: row.seed, split: row.split,
      predicted: element("a", { href: `/?${cell}`, class: row.is_right ? "good" : "bad" }, row.predicted ?? "unknown label"),
      probability: row.probability, "of the true label": row.label_probability,
    };
  });
  return section("Predictions", ["run", "seed", "split", "predicted", "probability", "of the true label"], shown);
}

function section(name, columns, rows) {
  if (!rows.length) return [];
  const used = columns.filter((column) => rows.some((row) => row[column] != null));
  const table = element(
    "table", {},
    element("tr", {}, ...used.map((column) => element("th", { scope: "col" }, column))),
    ...rows.map((row) => element("tr", {}, ...used.map((column) => cell(row[column])))),
  );
  return [element("h3", {}, name), element("div", { class: "scroll" }, table)];
}

function cell(value) {
  if (typeof value === "number") return element("td", { class: "number" }, rounded(value));
  return element("td", {}, value ?? "");
}

function rounded(value) {
  return Number.isInteger(value) ? value : Number(value.toPrecision(4));
}

function facts(name, entries) {
  const known = entries.filter(([, value]) => value != null && value !== "");
  if (!known.length) return [];
  const rows = known.map(([key, value]) => element("tr", {}, element("th", { scope: "row" }, key), cell(value)));
  return [element("h3", {}, name), element("table", {}, ...rows)];
}

function measures(row) {
  return row ? facts("Measures", Object.entries(row).map(([name, value]) => [name.replaceAll("_", " "), value])) : [];
}

function source(post) {
  const is_web = /^https?:\/\//.test(post.source ?? "");
  const page = is_web ? element("a", { href: post.source, rel: "noopener noreferrer", target: "_blank" }, post.source) : post.source;
  return facts("Post", [
    ["posted", post.created_at_utc && `${post.created_at_utc.slice(0, 16).replace("T", " ")} UTC`], ["rating", post.rating], ["score", post.score],
    ["size", `${post.image_width} × ${post.image_height}`], ["type", post.file_ext],
    ["bytes", post.file_bytes], ["source", page], ["file", post.original_path ?? post.original_url],
    ["uploader", post.uploader_id],
    ["licence", post.licence],
  ]);
}

function tags(kinds) {
  const used = Object.entries(kinds).filter(([, names]) => names.length);
  return used.flatMap(([kind, names]) => [
    element("h3", {}, `Tags: ${kind}`),
    element("ul", { class: "tags" }, ...names.map((name) => element("li", {}, element("a", { href: `/?${new URLSearchParams({ tags: name, decision: "all" })}` }, name)))),
  ]);
}
