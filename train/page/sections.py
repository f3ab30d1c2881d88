"""The first half of the page: the answer, the results table, published figures, the funnel."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from train.page import published
from train.page.answer import Answer
from train.page.comparison import Comparison, Spread, Summary
from train.page.figures import Drawing
from train.page.funnel import Funnel, Step
from train.page.markup import (
    Html,
    between,
    count,
    element,
    join,
    millions,
    p_value,
    paragraph,
    percent,
    points,
    seconds,
    table,
)
from train.page.results import Results


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page, reachable under `#anchor`."""

    anchor: str
    title: str
    body: Html


def picture(drawing: Drawing, *, note: str = "") -> Html:
    """Returns a figure with its caption and the names of the files that hold it."""
    files = f" {drawing.name}.svg, {drawing.name}.csv"
    width = re.search(r'width="([\d.]+pt)"', drawing.svg)
    return element(
        "figure",
        element(
            "div",
            Html(drawing.svg),
            class_="drawing",
            role="img",
            aria_label=drawing.description,
            tabindex="0",
            style=f"--natural:{width.group(1) if width else '480pt'}",
        ),
        element("figcaption", note, element("span", files, class_="files")),
    )


def answer(said: Answer) -> Section:
    """Returns the answer: a verdict, the sentence, and the facts behind it."""
    facts = [
        element("div", element("dt", question), element("dd", fact))
        for question, fact in said.facts
    ]
    body = join(
        [
            paragraph(element("strong", f"{said.verdict}."), " ", said.sentence, class_="sentence"),
            element("dl", *facts, class_="facts") if facts else "",
        ]
    )
    return Section("answer", "The answer", body)


def results(found: Results, comparison: Comparison, drawing: Drawing | None) -> Section:
    """Returns the results of every run, their costs, and the published figures."""
    images, white = len(found.white), int(found.white.sum())
    body = [
        paragraph(
            f"{count(images)} test pictures, {count(white)} of them on white; "
            f"{len(found.labels)} labels; " + _seeds(found),
        ),
        _success(comparison, images=images, white=white),
        element(
            "div",
            picture(drawing, note="Paired bootstrap over test pictures, averaged over seeds.")
            if drawing
            else "",
            _changes(comparison),
            class_="pair",
        ),
        _routing(comparison),
        _costs(comparison),
        _published(found),
    ]
    return Section("results", "Results", join(body))


def funnel(found: Funnel, drawing: Drawing | None) -> Section:
    """Returns what each stage kept, and every reason with its count."""
    if found.absent_because or drawing is None:
        said = found.absent_because or "It lists no stage."
        body = paragraph("The catalog was not at hand, so the funnel is not drawn. ", said)
        return Section("funnel", "From board to data set", body)
    widest = max((posts for step in found.steps for _, posts in step.reasons), default=1)
    body = join(
        [
            picture(drawing, note="Posts that each stage kept and refused."),
            element(
                "div", *(_reasons(step, widest) for step in found.steps if step.reasons),
                class_="reasons",
            ),
            paragraph("A post that fails several rules counts under each.", class_="note"),
        ]
    )  # fmt: skip
    return Section("funnel", "From board to data set", body)


def spread(values: Spread | None) -> str:
    """Returns a mean in percent, with its standard deviation where there are several seeds."""
    if values is None:
        return ""
    deviation = values.deviation
    return percent(values.mean) + ("" if deviation is None else f" ± {percent(deviation)}")


def _success(comparison: Comparison, *, images: int, white: int) -> Html:
    head = (
        "run", "clusters", "MSR, %", "MSR macro, %", "difference to flat, points [95\u00a0% interval]",
        "MICP, reference clusters, %", "MICP, own clusters, %", f"MSR white, % (n = {count(white)})",
    )  # fmt: skip
    rows = [
        (
            row.name,
            row.run.grouping or "none",
            spread(row.msr),
            spread(row.msr_macro),
            f"{points(row.difference.mean)} [{between(row.difference)}]" if row.difference else "",
            spread(row.micp),
            spread(row.micp_own),
            spread(row.msr_white),
        )
        for row in comparison.summaries
    ]
    caption = (
        f"Success on the test pictures (n = {count(images)}). MSR: share of pictures named "
        "rightly; macro: mean over labels. MICP: probability of landing in the right cluster when "
        "labels are equally frequent; reference clusters are the modularity clusters of the seed, "
        "own clusters the run's."
    )
    return table(head, rows, caption=caption, words=(0, 1), marked=(0,))


def _seeds(found: Results) -> str:
    if len(found.seeds) == 1:
        return f"one seed ({found.seeds[0]})."
    return f"seeds {', '.join(map(str, found.seeds))}; ± is the standard deviation over seeds."


def _changes(comparison: Comparison) -> Html:
    rows = [
        (
            row.name,
            str(seed),
            count(one.fixed),
            count(one.broken),
            p_value(one.p_value),
            p_value(row.p_values[seed]),
        )
        for row in comparison.summaries
        for seed, one in row.flips.items()
    ]
    caption = (
        "Test pictures fixed (flat wrong, run right) and broken, with the two-sided p of the exact "
        "McNemar test and after Holm's correction over this table."
    )
    head = ("run", "seed", "fixed", "broken", "p", "p, Holm")
    return table(head, rows, caption=caption) if rows else Html("")


def _routing(comparison: Comparison) -> Html:
    """What a router does to a run: only where `evaluate` measured it."""
    measured = ("router_accuracy", "oracle_msr", "route_msr", "msr_full")
    rows = []
    for row in comparison.summaries:
        metrics = [trained.metrics for trained in row.run.seeds.values()]
        if row.mode == "default" and all(name in one for one in metrics for name in measured):
            values = [Spread(tuple(float(one[name]) for one in metrics)) for name in measured]
            rows.append((row.name, *(spread(value) for value in values)))
    caption = (
        "Routing. The root loses a picture when it sends it to the wrong one of the run's own "
        "clusters; the oracle sends every picture to the right one, and what is wrong then is the "
        "subnetworks' own."
    )
    head = (
        "run", "sent to the right cluster, %", "MSR with an oracle, %", "MSR routed, %",
        "MSR in full, %",
    )  # fmt: skip
    return table(head, rows, caption=caption) if rows else Html("")


def _costs(comparison: Comparison) -> Html:
    head = (
        "run", "parameters, M", "MACs a picture, M", "× flat", "training, s", "critical path, s",
        "training with clustering root, s", "critical path with it, s",
    )  # fmt: skip
    flat = comparison.flat.cost.macs
    rows = [
        (
            row.name,
            millions(row.cost.params),
            millions(row.cost.macs),
            f"{row.cost.macs / flat:.2f}" if flat else "",
            seconds(row.cost.seconds_total.mean),
            seconds(row.cost.seconds_critical.mean),
            *_with_root(row),
        )
        for row in comparison.summaries
    ]
    caption = (
        "Cost. MACs are expected multiply-accumulates of one test picture (all networks in mode "
        "full). Seconds are means over seeds on one machine; the critical path lets networks that "
        "do not wait for one another train side by side. The clustering root is the flat network "
        "that the clusters were found with."
    )
    return table(head, rows, caption=caption, marked=(0,))


def _with_root(row: Summary) -> tuple[str, str]:
    root = row.cost.seconds_clustering
    if root is None:
        return "", ""
    total, critical = row.cost.seconds_total.mean, row.cost.seconds_critical.mean
    return seconds(total + root.mean), seconds(critical + root.mean)


def _published(found: Results) -> Html:
    success = table(
        ("architecture", "labels", "MSR, %", "MICP, %", "MSR white, %"),
        [
            (
                row.architecture,
                str(row.labels),
                f"{row.msr}",
                "" if row.micp is None else f"{row.micp}",
                f"{row.msr_white}",
            )
            for row in published.SUCCESS
        ],
        caption="Uppsala report, Table 1 (n not printed).",
    )
    times = table(
        ("architecture", "labels", "flat, s", "root, s", "subnetworks, mean / longest, s",
         "total, s", "in parallel, s"),
        [
            (
                row.architecture,
                str(row.labels),
                count(row.flat),
                count(row.root),
                f"{count(row.subnetworks_mean)} / {count(row.subnetworks_max)}",
                count(row.total),
                count(row.parallel),
            )
            for row in published.SECONDS
        ],
        caption="Uppsala report, Table 2: seconds of training.",
    )  # fmt: skip
    return element(
        "div",
        element("h3", "Published, on other data"),
        paragraph("There: ", published.DATA),
        paragraph(
            "Here: ", _data(found), " The figures stand side by side, not against each other."
        ),
        element("div", success, times, class_="pair"),
        element("ul", *(element("li", doubt) for doubt in published.DOUBTS), class_="note"),
        class_="published",
    )


def _data(found: Results) -> str:
    samples, side = found.manifest["samples"], found.manifest["image"]["side"]
    return (
        f"{len(found.labels)} labels, {count(sum(samples.values()))} pictures of {side} × {side} "
        f"pixels ({', '.join(f'{count(n)} {split}' for split, n in samples.items())}), "
        f"{len(found.seeds)} training{'s' if len(found.seeds) > 1 else ''} of each run."
    )


def _reasons(step: Step, widest: int) -> Html:
    rows: Sequence[Html] = [
        element(
            "tr",
            element("th", reason, scope="row", class_="word"),
            element("td", count(posts), class_="number"),
            element("td", _bar(posts / widest), class_="track"),
        )
        for reason, posts in step.reasons
    ]
    caption = f"{step.stage}: {count(step.refused)} of {count(step.entered)} posts refused"
    return element("table", element("caption", caption), element("tbody", *rows))


def _bar(share: float) -> Html:
    return element("span", style=f"width:{100 * max(share, 0.004):.1f}%", class_="bar")
