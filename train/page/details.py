"""The second half of the page: images, confusions, trees, clusters, curves, how it was made."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.page.comparison import Comparison
from train.page.figures import ANNOTATED_LABELS, Drawing
from train.page.markup import (
    Html,
    between,
    count,
    element,
    folded,
    join,
    paragraph,
    percent,
    points,
    seconds,
    table,
)
from train.page.mosaic import Tile
from train.page.results import Results, Run
from train.page.sections import Section, picture, spread
from train.page.summary import Summary, per_label, shares
from train.tree.hierarchy import Nested

_LONG = 30  # labels; a longer table is folded
_SHOWN = 12  # labels of the mosaic that are open
_DEVICE = {"device": "", "device_name": "", "threads": "threads", "cpu_cores": "cores"}
_OUTCOMES = {
    "both": "both right",
    "hierarchy": "hierarchy alone right",
    "flat": "flat alone right",
    "nobody": "both wrong",
}


def mosaic(lines: Sequence[Sequence[Tile]], labels: Sequence[str], flat: Summary) -> Section:
    """Returns rows of test images, one label a row, framed by who named them rightly."""
    has_hierarchy = any(tile.hierarchical is not None for line in lines for tile in line)
    names = _OUTCOMES if has_hierarchy else {"both": "right", "nobody": "wrong"}
    keys = [
        element("span", element("i", class_=f"tile {outcome}"), " ", said)
        for outcome, said in names.items()
    ]
    success = per_label(flat.answers, len(labels))
    rows = [
        element(
            "div",
            element(
                "h3", labels[leaf], element("span", f" flat {percent(float(success[leaf]))} %")
            ),
            element("div", *(_tile(tile, labels) for tile in line), class_="tiles"),
            class_="row",
        )
        for leaf, line in enumerate(lines)
        if line
    ]
    body = [
        paragraph("Test images drawn by seed, one label a row. ", class_="note"),
        element("p", *keys, class_="keys"),
        element("div", *rows[:_SHOWN], class_="mosaic"),
    ]
    if rows[_SHOWN:]:
        rest = element("div", *rows[_SHOWN:], class_="mosaic")
        body.append(folded(f"The other {len(rows) - _SHOWN} labels", rest))
    return Section("mosaic", "Test images", join(body))


def confusions(plain: Drawing, ordered: Drawing, *, labels: int) -> Section:
    """Returns the flat confusion in the order of the labels and in that of the clusters."""
    body = element(
        "div",
        picture(plain, note="Labels in the order of the data set."),
        picture(ordered, note="Labels in the order of the clusters, which are outlined."),
        class_=_beside(labels),
    )
    return Section("confusion", "What the flat network confuses", body)


def differences(
    drawings: Mapping[str, Drawing],
    leading: Sequence[str],
    found: Results,
    comparison: Comparison,
) -> Section:
    """Returns what each hierarchy changed in the confusion, and every label's success."""
    said = paragraph(
        "Blue: the hierarchy answers this more often; orange: less often. On the diagonal blue is "
        "better, off the diagonal orange is."
    )
    notes = {name: f"{name} minus flat." for name in drawings}
    open_, rest = _pictures(drawings, notes, leading)
    labels = _every_label(found, comparison)
    if len(found.labels) > _LONG:
        labels = folded("Every label", labels)
    beside = element("div", *open_, labels, class_=_beside(len(found.labels)))
    body = join([said, beside, rest])
    return Section("difference", "What the hierarchy changes", body)


def trees(
    drawings: Mapping[str, Drawing], levels: Sequence[Html], leading: Sequence[str], found: Results
) -> Section:
    """Returns the tree of each hierarchy, with its first seed."""
    first = _first_seeds(found)
    said = paragraph(
        "Rectangles are networks: the share of the test images of their own labels "
        "that they send on rightly. Ellipses are labels: their success, and beside it the points "
        "gained or lost against the flat network."
    )
    notes = {name: f"{name}, seed {first[name]}." for name in drawings}
    is_long = len(found.labels) > _LONG
    open_, rest = _pictures(drawings, notes, () if is_long else leading)
    rest = join([rest, folded("MICP of every network", *levels)])
    return Section("tree", "The tree", join([said, *open_, rest]))


def clustering(found: Results) -> Section:
    """Returns the sweep of each seed with the choice, and the clusters drawn by chance."""
    body = []
    for place, seed in enumerate(found.seeds):
        sweep = _sweep(found.reference(seed).facts, seed=seed)
        body.append(folded(f"Resolutions of seed {seed}", sweep) if place else sweep)
        body.append(_clusters(found, seed))
    return Section("clustering", "How the clusters were found", join(body))


def curves(drawings: Mapping[str, Drawing], leading: Sequence[str], found: Results) -> Section:
    """Returns the loss curves and what every network's training took, for each run's first seed."""
    first = _first_seeds(found)
    notes = {name: f"{name}, seed {first[name]}." for name in drawings}
    open_, rest = _pictures(drawings, notes, (found.flat.name, *leading))
    rows = [
        (run.name, *_network(network))
        for run in found.runs
        for network in run.seeds[first[run.name]].fit.get("networks", [])
    ]
    head = ("run", "network", "pictures", "epochs", "discarded", "seconds", "stopped by")
    taken = table(
        head, rows, caption="What each network's training took, first seed.", words=(0, 1, 6)
    )
    return Section(
        "curves",
        "How training went",
        join([*open_, rest, folded(f"Every network ({len(rows)})", taken)]),
    )


def white(found: Results, comparison: Comparison) -> Section:
    """Returns the success on white backgrounds against that on all others."""
    n = int(found.white.sum())
    if not n:
        said = paragraph("No test image has a white background.")
        return Section("white", "White backgrounds", said)
    rest = len(found.white) - n
    rows = []
    for row in comparison.summaries:
        others = [float(one.correct[~found.white].mean()) for one in row.answers.values()]
        rows.append(
            (
                row.name,
                spread(row.msr_white),
                percent(float(np.mean(others))) if rest else "",
                points(row.difference_white.mean) if row.difference_white else "",
                between(row.difference_white) if row.difference_white else "",
            )
        )
    head = (
        "run",
        f"MSR white, % (n = {count(n)})",
        f"MSR elsewhere, % (n = {count(rest)})",
        "difference to flat on white, points",
        "95 % interval",
    )
    made = table(head, rows, caption="Simple compositions: the report found them easier.")
    if len(rows) > _SHOWN:
        made = folded("Every run", made)
    return Section("white", "White backgrounds", made)


def worst(found: Results, comparison: Comparison, *, limit: int) -> Section:
    """Returns the most frequent confusions of the flat network, and every label's success."""
    leaves, main = len(found.labels), comparison.main
    flat = shares(comparison.flat.answers, leaves)
    other = shares(main.answers, leaves) if main else None
    tested = np.bincount(found.test_labels, minlength=leaves)
    pairs = flat * tested[:, None]
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:limit]
    rows = []
    for place in order:
        i, j = divmod(int(place), leaves)
        if pairs[i, j] > 0:
            rows.append(
                (
                    found.labels[i],
                    found.labels[j],
                    percent(float(flat[i, j])),
                    "" if other is None else percent(float(other[i, j])),
                    count(int(tested[i])),
                    _relation(found, i, j),
                )
            )
    name = main.name if main else "hierarchy"
    made = table(
        ("true label", "called", "flat, %", f"{name}, %", "n of the true label", "the two are"),
        rows,
        caption="Shares of the true label's test images, mean over seeds; most images first.",
        words=(0, 1, 5),
    )
    return Section("worst", "Worst confusions", made)


def made(found: Results, *, params: Mapping[str, Any], versions: Mapping[str, str]) -> Section:
    """Returns what a person needs to make the same page again."""
    fit = found.flat.seeds[found.seeds[0]].fit
    facts = {
        "Root hash of the shards": found.manifest["root_sha256"],
        "Pictures": ", ".join(
            f"{split} {count(n)}" for split, n in found.manifest["samples"].items()
        ),
        "Device": ", ".join(
            f"{said} {fit[name]}".strip() for name, said in _DEVICE.items() if name in fit
        )
        or "not recorded",
        "Versions": ", ".join(
            f"{name} {version}"
            for name, version in sorted(
                {
                    **found.manifest.get("versions", {}),
                    **fit.get("versions", {}),
                    **versions,
                }.items()
            )
        ),
        "Seeds": ", ".join(map(str, found.seeds)),
        "Commands": "dvc repro; the page alone: python -m train report",
    }
    listed = [
        element("div", element("dt", name), element("dd", said)) for name, said in facts.items()
    ]
    settings = {
        "report": params,
        **{run.name: _params_of(run) for run in found.runs},
    }
    written = [
        folded(
            f"Parameters of {name}",
            element("pre", json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)),
        )
        for name, values in settings.items()
    ]
    return Section("made", "How this was made", join([element("dl", *listed), *written]))


def _pictures(
    drawings: Mapping[str, Drawing], notes: Mapping[str, str], leading: Sequence[str]
) -> tuple[list[Html], Html]:
    """Returns the figures of the leading runs, and those of all others behind one line."""
    made = {name: picture(drawing, note=notes[name]) for name, drawing in drawings.items()}
    rest = [made[name] for name in made if name not in leading]
    shown = [made[name] for name in made if name in leading]
    title = "The other runs" if shown else "Every run"
    return shown, folded(f"{title} ({len(rest)})", *rest) if rest else Html("")


def _first_seeds(found: Results) -> dict[str, int]:
    return {run.name: next(iter(run.seeds)) for run in found.runs}


def _beside(labels: int) -> str:
    """Confusions of many labels need the whole width."""
    return "pair" if labels <= ANNOTATED_LABELS else "stack"


def _tile(tile: Tile, labels: Sequence[str]) -> Html:
    said = [f"flat: {labels[tile.flat]}"]
    if tile.hierarchical is not None:
        said.append(f"hierarchy: {labels[tile.hierarchical]}")
    title = f"post {tile.post_id}, {labels[tile.label]} ({', '.join(said)})"
    data = base64.b64encode(tile.data).decode("ascii")
    image = _image(f"data:{tile.media_type};base64,{data}", title)
    return element("span", image, class_=f"tile {tile.outcome}", title=title)


def _image(source: str, description: str) -> Html:
    """An image has no end tag."""
    opened = element("img", src=source, alt=description)
    return Html(opened.removesuffix("</img>"))


def _sweep(facts: Mapping[str, Any], *, seed: int) -> Html:
    """Neighbouring resolutions that give one partition share a row."""
    rows: list[tuple[str, ...]] = []
    marked, last = [], None
    for one in facts["sweep"]:
        if last is not None and one["clusters"] == last["clusters"]:
            first = rows[-1][0].split("–")[0]
            rows[-1] = (f"{first}–{one['gamma']:g}", *rows[-1][1:])
        else:
            rows.append(
                (
                    f"{one['gamma']:g}",
                    str(len(one["clusters"])),
                    ", ".join(map(str, sorted(map(len, one["clusters"]), reverse=True))),
                    percent(one["micp"]),
                    points(one["excess"]),
                    (one["refused"] or "").replace("_", " "),
                )
            )
        if one["selected"]:
            marked.append(len(rows) - 1)
        last = one
    for place in marked:
        rows[place] = (*rows[place][:-1], "selected")
    stability = facts.get("stability")
    said = "" if stability is None else f" Stability {stability:.2f} (mean adjusted Rand index)."
    caption = (
        f"Seed {seed}: modularity clusters of the validation confusion by resolution γ. Excess is "
        f"MICP above that of random clusters of the same sizes.{said}"
    )
    head = ("γ", "clusters", "labels in each", "MICP, %", "excess, points", "")
    return table(head, rows, caption=caption, words=(0, 2, 5), marked=marked)


def _clusters(found: Results, seed: int) -> Html:
    groups = [
        element(
            "tr",
            element("th", grouping.name if place == 0 else "", scope="row", class_="word"),
            element("td", _nested(cluster, found.labels), class_="word"),
        )
        for (_, of), grouping in found.groupings.items()
        if of == seed
        for place, cluster in enumerate(grouping.tree)
    ]
    listed = element("div", element("table", element("tbody", *groups)), class_="scroll")
    return folded(f"Clusters of seed {seed}", listed)


def _nested(tree: int | Nested, labels: Sequence[str]) -> str:
    """The labels below a node, those of a deeper node in brackets."""
    if isinstance(tree, int):
        return labels[tree]
    return ", ".join(
        labels[child] if isinstance(child, int) else f"({_nested(child, labels)})" for child in tree
    )


def _network(network: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(network["network"]),
        count(network["pictures"]),
        str(network["epochs"]),
        str(network["discarded_epochs"]),
        seconds(float(network["seconds"])),
        str(network["stopped_by"]).replace("_", " "),
    )


def _relation(found: Results, i: int, j: int) -> str:
    """What the data knows of a confused pair: a form and its base, or one cluster."""
    base = found.classes.get("base", {})
    first, second = found.labels[i], found.labels[j]
    if base.get(first, first) == base.get(second, second):
        return "a form and its base"
    seed = found.seeds[0]
    together = any({i, j} <= set(cluster) for cluster in found.reference(seed).clusters)
    return "same cluster" if together else "across clusters"


def _every_label(found: Results, comparison: Comparison) -> Html:
    leaves, main = len(found.labels), comparison.main
    tested = np.bincount(found.test_labels, minlength=leaves)
    flat = per_label(comparison.flat.answers, leaves)
    other = flat if main is None else per_label(main.answers, leaves)
    rows = [
        (
            label,
            count(int(tested[leaf])),
            percent(float(flat[leaf])),
            percent(float(other[leaf])),
            points(float(other[leaf] - flat[leaf])),
        )
        for leaf, label in enumerate(found.labels)
    ]
    name = main.name if main else "hierarchy"
    head = ("label", "n", "flat, %", f"{name}, %", "change, points")
    caption = "Success of each label, mean over seeds; n test images."
    return table(head, rows, caption=caption)


def _params_of(run: Run) -> Any:
    return next(iter(run.seeds.values())).model.get("params", {})
