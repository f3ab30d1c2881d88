"""What becomes of each paper's claim in the recorded runs: a table, and one sentence a paper."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from generators.experiments import measured
from generators.records import Records, by_budget, differences
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
"""Points over the flat network of the same seed, one value a seed, by data set and budget."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A gain over its own flat network that a paper prints, and what our runs gain."""

    paper: str
    published: Sequence[float]
    """Points, one for each network or data set of the paper."""
    ours: _Gains
    random: _Gains
    """Of the hierarchy on random groups of the same sizes."""
    longer: _Gains
    """Of the flat network with the training operations of the hierarchy."""

    def rows(self) -> list[tuple[str, ...]]:
        """Returns one row per data set and budget."""
        return [
            (
                self.paper if position == 0 else "",
                span(self.published, "{:+.2f}".format) if position == 0 else "",
                name,
                *(_cell(gains, name) for gains in (self.ours, self.random, self.longer)),
            )
            for position, name in enumerate(self.ours)
        ]

    def sentence(self) -> str:
        """Returns the verdict, and which controls gain as much."""
        ahead = [name for name, values in self.ours.items() if statistics.mean(values) >= _LEVEL]
        if not ahead:
            return (
                f"- **{self.paper}: not reproduced.** It is behind its own flat network on every "
                "data set, at every budget."
            )
        where = "" if len(ahead) == len(self.ours) else f" on {_joined(ahead)} alone"
        controls = {
            "A flat network that trains as long gains more": self._as_good(self.longer, ahead),
            "Random groups do as well": self._as_good(self.random, ahead, slack=_LEVEL),
        }
        texts = [
            f" {text} {'there' if names == ahead else f'on {_joined(names)}'}."
            for text, names in controls.items()
            if names
        ]
        return (
            f"- **{self.paper}: ahead of its own flat network{where}, with more training.**"
            f"{''.join(texts)}"
        )

    def _as_good(self, control: _Gains, ahead: Sequence[str], *, slack: float = 0) -> list[str]:
        """Returns the data sets where a control gains as much, less `slack` points."""
        return [
            name
            for name in ahead
            if name in control
            and statistics.mean(control[name]) >= statistics.mean(self.ours[name]) - slack
        ]


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
    sets = by_budget()
    # One route for the report; all branches where the paper's figure is of all.
    return [
        _claim("Uppsala report", trees, sets, "uppsala", measure="msr"),
        _claim("HierNet", hiernet, sets, "hiernet", measure="msr_full"),
        _claim("HD-CNN", hdcnn, sets, "hdcnn", measure="msr_full"),
        _claim("DHNN", dhnn, sets, "dhnn", measure="msr_full"),
    ]


def _claim(
    paper: str, figures: Sequence[float], sets: dict[str, Records], method: str, *, measure: str
) -> _Claim:
    runs = {method: measure, f"{method}_random": measure, f"{method}_train_flops": "msr"}
    return _Claim(paper, figures, *(_gains(sets, run, kind) for run, kind in runs.items()))


def _gains(sets: dict[str, Records], run: str, measure: str) -> _Gains:
    gains = {name: differences(records, run, measure=measure) for name, records in sets.items()}
    return {name: values for name, values in gains.items() if values}


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
