"""Each hierarchy against its controls: random groups, and runs without a tree of equal cost."""

from dataclasses import dataclass

from train.page.blocks import PageSection, ReportTable, table
from train.page.comparison import RunComparison
from train.page.controls import ControlGroup, ControlResult, kind
from train.page.formatting import p_value, spread, with_intervals

_HEAD = (
    "run",
    "what it is",
    "cost: reached / aimed at",
    "accuracy, %",
    "difference, points",
    "difference to full, points",
    "McNemar p of each seed, Holm",
)


@dataclass(frozen=True, slots=True)
class ControlsContent:
    """What `templates/controls.html` shows: a table for each hierarchy that has controls."""

    tables: tuple[ReportTable, ...]


def section(comparison: RunComparison) -> PageSection:
    """Returns a table for each hierarchy with its random groups and its controls of equal cost."""
    tables = tuple(_table(controlled) for controlled in comparison.control_groups)
    return PageSection("controls", "Against its controls", ControlsContent(tables))


def _table(controlled: ControlGroup) -> ReportTable:
    runs = [row for row in (controlled.run, controlled.full) if row is not None]
    rows: list[tuple[str, ...]] = [
        (
            row.name,
            "all branches" if row.mode == "full" else "the hierarchy",
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
            control.summary.name,
            _kind(control),
            _match(control),
            spread(control.summary.msr),
            with_intervals(control.difference),
            with_intervals(control.difference_full),
            " · ".join(p_value(p) for p in control.p_values.values()),
        )
        for control in controlled.controls
    ]
    seeds = f"seed{'s' if len(controlled.run.predictions) > 1 else ''} "
    seeds += ", ".join(map(str, controlled.run.predictions))
    caption = (
        f"{controlled.run.name} minus each control, {seeds}. Brackets: 95\u00a0% intervals, above of "
        "the paired bootstrap over test images, below of Student's t over seeds. A difference is "
        "conclusive only where both exclude zero. p: exact McNemar test, after "
        "Holm's correction over this table."
    )
    return table(_HEAD, rows, caption=caption, words=(0, 1), marked=range(len(runs)))


def _kind(control: ControlResult) -> str:
    text = kind(control.equal, control.summary.run.method)
    return text if control.is_same_shape else f"{text}, of other sizes"


def _match(control: ControlResult) -> str:
    """The cost that a control reached and aimed at, and their ratio on a second line."""
    if control.equal is None:
        return ""
    if control.match is None:
        return "not recorded"
    size, unit = (1e12, "T") if control.equal == "train_flops" else (1e6, "M")
    reached, target = (
        f"{cost / size:.3g} {unit}" for cost in (control.match.reached, control.match.target)
    )
    flag = "" if control.match.is_equal else ", not equal"
    return f"{reached} / {target}\n= {control.match.ratio:.3f}{flag}"
