"""The first half of the page: the answer, the results table, the controls, the funnel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.evaluation.statistics import Interval
from train.page.answer import Answer
from train.page.comparison import Comparison
from train.page.controls import Contest, Control, kind
from train.page.figures import Drawing
from train.page.funnel import Funnel, Step
from train.page.markup import (
    Html,
    Text,
    between,
    count,
    element,
    folded,
    join,
    millions,
    milliseconds,
    p_value,
    paragraph,
    percent,
    points,
    seconds,
    table,
)
from train.page.results import Results
from train.page.summary import Spread, Summary

_LONG = 12  # rows; a longer table of the second rank is folded


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
    """Returns the answer: a verdict, the sentence, and a paragraph for each hierarchical method."""
    body = [paragraph(element("strong", f"{said.verdict}."), " ", said.sentence, class_="sentence")]
    for finding in said.findings:
        heading = element("h3", f"{finding.run}: {finding.verdict.lower()}")
        body += [heading, paragraph(finding.text)]
    body += [paragraph(said.sure, class_="note")] if said.sure else []
    return Section("answer", "The answer", join(body))


def results(found: Results, comparison: Comparison, drawings: Mapping[str, Drawing]) -> Section:
    """Returns the results of every run, their differences to flat, routing and costs."""
    images, white = len(found.white), int(found.white.sum())
    notes = {
        "differences": "Paired bootstrap over test images, averaged over seeds.",
        "cost": "Success against operations, means over seeds; bars are one standard deviation.",
    }
    figures = [
        picture(drawings[name], note=said) for name, said in notes.items() if name in drawings
    ]
    absent = f" Not trained yet, and left out: {', '.join(found.absent)}." if found.absent else ""
    many = len(comparison.summaries) > _LONG
    others = [_routing(comparison), _severity(comparison), _costs(comparison)]
    body = [
        paragraph(
            f"{count(images)} test images, {count(white)} of them on white; "
            f"{len(found.labels)} labels; " + _seeds(found) + absent,
        ),
        _success(comparison, images=images, white=white),
        element("div", *figures, class_="pair"),
        *([folded("Routing and cost of every run", *others)] if many else others),
        folded("Images fixed and broken against flat, by seed", _changes(comparison))
        if comparison.summaries[1:]
        else "",
    ]
    return Section("results", "Results", join(body))


def controls(comparison: Comparison) -> Section:
    """Returns a table for each hierarchy: its random groups, and the runs that cost as much."""
    said = paragraph(
        "Is it the tree, or what it cost? Random groups of the same sizes keep the tree and lose "
        "what was found. A control of equal cost has no tree; its cost is equal within 5\u00a0%, or "
        "flagged. Differences are the hierarchy minus the control: above zero the hierarchy is "
        "better."
    )
    tables = [_contest(contest) for contest in comparison.contests]
    return Section("controls", "Against its controls", join([said, *tables]))


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
                "div",
                *(_reasons(step, widest) for step in found.steps if step.reasons),
                class_="reasons",
            ),
            paragraph("A post that fails several rules counts under each.", class_="note"),
        ]
    )
    return Section("funnel", "From board to data set", body)


def spread(values: Spread | None, *, digits: int = 1) -> str:
    """Returns a mean in percent, with its standard deviation where there are several seeds."""
    if values is None:
        return ""
    deviation = values.deviation
    more = "" if deviation is None else f" ± {percent(deviation, digits=digits)}"
    return percent(values.mean, digits=digits) + more


def _contest(contest: Contest) -> Html:
    runs = [row for row in (contest.run, contest.full) if row is not None]
    rows: list[tuple[Text, ...]] = [
        (
            row.name,
            "all its networks" if row.mode == "full" else "the hierarchy",
            "",
            spread(row.msr),
            "",
            "",
            "",
        )
        for row in runs
    ]
    rows += [
        (
            one.summary.name,
            _kind(one),
            _match(one),
            spread(one.summary.msr),
            _interval(one.difference),
            _interval(one.difference_full),
            " · ".join(p_value(p) for p in one.p_values.values()),
        )
        for one in contest.controls
    ]
    head = (
        "run",
        "what it is",
        "cost: reached / wanted",
        "MSR, %",
        "difference, points",
        "difference in full, points",
        "p of each seed, Holm",
    )
    seeds = f"seed{'s' if len(contest.run.answers) > 1 else ''} "
    seeds += ", ".join(map(str, contest.run.answers))
    caption = (
        f"{contest.run.name} minus each control, {seeds}. Brackets: 95\u00a0% interval of the "
        "paired bootstrap over test images, averaged over seeds. p: exact McNemar test, after "
        "Holm's correction over this table."
    )
    return table(head, rows, caption=caption, words=(0, 1), marked=range(len(runs)))


def _kind(one: Control) -> str:
    said = kind(one.equal, one.summary.run.method)
    return said if one.is_same_shape else f"{said}, of other sizes"


def _match(one: Control) -> Text:
    if one.equal is None:
        return ""
    if one.match is None:
        return "not recorded"
    size, unit = (1e12, "T") if one.equal == "train_flops" else (1e6, "M")
    reached, wanted = (
        f"{cost / size:.3g} {unit}" for cost in (one.match.reached, one.match.wanted)
    )
    flag = "" if one.match.is_equal else ", not equal"
    return join([f"{reached} / {wanted}", Html("<br>"), f"= {one.match.ratio:.3f}{flag}"])


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{points(interval.mean)} [{between(interval)}]"


def _success(comparison: Comparison, *, images: int, white: int) -> Html:
    head = (
        "run",
        "clusters",
        "MSR, %",
        "MSR macro, %",
        "difference to flat, points [95\u00a0% interval]",
        "MICP, reference clusters, %",
        "MICP, own clusters, %",
        "path consistency, %",
        f"MSR white, % (n = {count(white)})",
    )
    rows = [
        (
            row.name,
            row.run.grouping or "none",
            spread(row.msr),
            spread(row.msr_macro),
            _interval(row.difference),
            spread(row.micp),
            spread(row.micp_own),
            spread(row.consistency),
            spread(row.msr_white),
        )
        for row in comparison.summaries
    ]
    caption = (
        f"Success on the test images (n = {count(images)}). MSR: share of images named "
        "rightly; macro: mean over labels. MICP: probability of landing in the right cluster when "
        "labels are equally frequent; reference clusters are the modularity clusters of the seed, "
        "own clusters the run's. Path consistency: share of images whose label, as named, lies in "
        "the own cluster that the run finds likeliest; 100 where it looks nowhere else."
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
        "Test images fixed (flat wrong, run right) and broken, with the two-sided p of the exact "
        "McNemar test and after Holm's correction over this table."
    )
    return table(("run", "seed", "fixed", "broken", "p", "p, Holm"), rows, caption=caption)


def _routing(comparison: Comparison) -> Html:
    """What a router does to a run: only where `evaluate` measured it."""
    measured = ("router_accuracy", "oracle_msr", "route_msr", "msr_full")
    rows = []
    for row in comparison.summaries:
        metrics = [trained.metrics for trained in row.run.seeds.values()]
        if row.mode == "default" and all(
            one.get(name) is not None for one in metrics for name in measured
        ):
            values = [Spread(tuple(float(one[name]) for one in metrics)) for name in measured]
            rows.append((row.name, *(spread(value) for value in values)))
    caption = (
        "Routing. The root loses an image when it sends it to the wrong one of the run's own "
        "clusters; the oracle sends every image to the right one, and what is wrong then is the "
        "subnetworks' own."
    )
    head = (
        "run",
        "sent to the right cluster, %",
        "MSR with an oracle, %",
        "MSR routed, %",
        "MSR in full, %",
    )
    return table(head, rows, caption=caption) if rows else Html("")


def _severity(comparison: Comparison) -> Html:
    """How bad the mistakes are, where the data tells a tree."""
    rows = [
        (
            row.name,
            spread(row.msr),
            _plain(row.severity),
            _plain(row.average_cost),
            spread(row.node_f1),
            spread(row.path_f1),
        )
        for row in comparison.summaries
        if row.severity is not None and row.average_cost is not None
    ]
    caption = (
        "Mistakes in the tree that the data tells (grouping given): the height of the lowest node "
        "above truth and answer, 1 inside a group and 2 across groups of two levels. Severity is its "
        "mean over the mistakes, cost over all images; severity alone falls with every easy mistake. "
        "Node F1: of the nodes on the way to the label named against those on the way to the true "
        "one, mean over images; path F1: of whole ways, mean over labels."
    )
    head = ("run", "MSR, %", "severity", "average cost", "node F1, %", "path F1, %")
    return table(head, rows, caption=caption, marked=(0,)) if rows else Html("")


def _plain(value: Spread) -> str:
    deviation = value.deviation
    return f"{value.mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def _costs(comparison: Comparison) -> Html:
    head = (
        "run",
        "parameters, M",
        "MACs an image, M",
        "× flat",
        "training, s",
        "critical path, s",
        "training with clustering root, s",
        "critical path with it, s",
        "an image alone, ms",
        "an image in batches of 256, ms",
    )
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
            milliseconds(row.cost.ms_alone),
            milliseconds(row.cost.ms_in_batch),
        )
        for row in comparison.summaries
    ]
    caption = (
        "Cost. MACs are expected multiply-accumulates of one test image (all networks in mode "
        "full). Seconds are means over seeds on one machine; the critical path lets networks that "
        "do not wait for one another train side by side. The clustering root is the flat network "
        "that the clusters were found with. Milliseconds are medians of calls, means over "
        "seeds, of the machine that evaluated, beside whatever else ran there; of mode full and "
        "where nothing was timed there are none."
    )
    return table(head, rows, caption=caption, marked=(0,))


def _with_root(row: Summary) -> tuple[str, str]:
    root = row.cost.seconds_clustering
    if root is None:
        return "", ""
    total, critical = row.cost.seconds_total.mean, row.cost.seconds_critical.mean
    return seconds(total + root.mean), seconds(critical + root.mean)


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
