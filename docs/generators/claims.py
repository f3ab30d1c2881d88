"""What becomes of each paper's claim in the recorded runs: a table, and one sentence a paper."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from generators.experiments import measured
from generators.records import COMPARED, compared, differences
from generators.text import span, table
from train.page import published

_LEVEL = 0.5  # points: smaller differences count as level, as in experiments/PROTOCOL.md
_COLUMNS = (
    "paper",
    "published, points",
    "data",
    "hierarchy",
    "random groups of the same sizes",
    "flat, with its training operations",
)
_Gains = dict[str, list[float]]
"""Points over the flat network of the same seed, one value a seed, by data set."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A gain over its own flat network that a paper prints."""

    paper: str
    method: str
    measure: str
    """`msr` for one route, `msr_full` where the paper's figure is of all branches."""
    published: Sequence[float]
    """Points, one for each network or data set of the paper."""

    def rows(self) -> list[tuple[str, ...]]:
        """Returns one row per data set."""
        ours, random, longer = self._gains()
        return [
            (
                self.paper if position == 0 else "",
                span(self.published, "{:+.2f}") if position == 0 else "",
                name,
                _cell(ours, name),
                _cell(random, name),
                _cell(longer, name),
            )
            for position, name in enumerate(ours)
        ]

    def sentence(self) -> str:
        """Returns the verdict, and which controls gain as much."""
        ours, random, longer = self._gains()
        ahead = [name for name, values in ours.items() if statistics.mean(values) >= _LEVEL]
        if not ahead:
            return (
                f"- **{self.paper}: not reproduced.** It is behind its own flat network on every "
                "data set."
            )
        where = "" if len(ahead) == len(ours) else f" on {_joined(ahead)} alone"
        controls = {
            "A flat network that trains as long gains more on": _as_good(longer, ours, ahead),
            "Random groups do as well on": _as_good(random, ours, ahead, slack=_LEVEL),
        }
        found = [f" {text} {_joined(names)}." for text, names in controls.items() if names]
        return (
            f"- **{self.paper}: ahead of its own flat network{where}, with more training.**"
            f"{''.join(found)}"
        )

    def _gains(self) -> tuple[_Gains, _Gains, _Gains]:
        return (
            _gains(self.method, self.measure),
            _gains(f"{self.method}_random", self.measure),
            _gains(f"{self.method}_train_flops", "msr"),
        )


def claims() -> str:
    """Returns the table of gains, and one sentence for each of the five papers."""
    tabulated = _claims()
    rows = [row for claim in tabulated for row in claim.rows()]
    sentences = [*(claim.sentence() for claim in tabulated), _adaptation()]
    return "\n\n".join([table(_COLUMNS, rows), "\n".join(sentences)])


def _claims() -> list[_Claim]:
    accuracy = {(row.architecture, row.data): row.msr for row in published.ACCURACY}
    trees = [accuracy["hierarchical", data] - accuracy["flat", data] for data in ("D25", "D123")]
    hiernet = [row.full - row.flat for row in published.HIERNET if row.act == "relu"]
    errors = {row.model: row.ten_views or 0.0 for row in published.HDCNN}
    hdcnn = [errors["NIN, the flat network"] - errors["HD-CNN"]]
    models = [cells for name, cells in published.DHNN.items() if name != "flat CNN"]
    dhnn = [
        # A path is right only if its nodes are: a cell that says otherwise has them exchanged.
        max(cell.path for cell in cells if cell.path < cell.node) - flat.path
        for flat, *cells in zip(published.DHNN["flat CNN"], *models, strict=True)
    ]
    return [
        _Claim("Uppsala report", "uppsala", "msr", trees),
        _Claim("HierNet", "hiernet", "msr_full", hiernet),
        _Claim("HD-CNN", "hdcnn", "msr_full", hdcnn),
        _Claim("DHNN", "dhnn", "msr_full", dhnn),
    ]


def _gains(run: str, measure: str) -> _Gains:
    sets = {
        COMPARED[name]: differences(records, run, measure=measure)
        for name, records in compared().items()
        if name != "cifar100_resnet20"  # another network than the other sets have
    }
    return {name: values for name, values in sets.items() if values}


def _as_good(control: _Gains, ours: _Gains, ahead: Sequence[str], *, slack: float = 0) -> list[str]:
    """Returns the data sets where a control gains as much, less `slack` points."""
    return [
        name
        for name in ahead
        if name in control and statistics.mean(control[name]) >= statistics.mean(ours[name]) - slack
    ]


def _cell(gains: _Gains, name: str) -> str:
    if name not in gains:
        return ""
    return f"{statistics.mean(gains[name]):+.1f} ({len(gains[name])})"


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _adaptation() -> str:
    """Returns the sentence on Dutt and others, who print directions and no table."""
    tests: dict[bool, list[Any]] = {True: [], False: []}
    for details in measured("adaptation").values():
        for run, seeds in details["runs"].items():
            tests[run.endswith("_random")] += [seed["test"] for seed in seeds.values()]
    labels, categories = (_raised(tests[False], level) for level in ("fine", "coarse"))
    most = min(labels, categories) > len(tests[False]) / 2
    return (
        f"- **Merged networks (Dutt and others): {'reproduced' if most else 'not reproduced'} in "
        "direction.** Adaptation (alpha 1 against alpha 0) raises the accuracy of labels in "
        f"{labels} of {len(tests[False])} trainings, and that of categories in {categories}. With "
        f"random categories it raises that of labels in {_raised(tests[True], 'fine')} of "
        f"{len(tests[True])}."
    )


def _raised(tests: Iterable[Any], level: str) -> int:
    return sum(test[level]["1.0"] > test[level]["0.0"] for test in tests)
