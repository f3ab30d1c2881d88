"""What becomes of each paper's claim in the recorded runs: a table, and one sentence a paper."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from generators.experiments import measured
from generators.records import LEVEL, Records, by_budget, differences, flat_epochs, recorded
from generators.text import span, table
from train.page import published
from train.runs import TOLERANCE

_MERGED = ("merged", "merged_1")  # they share two stages of three, and one
_COLUMNS = (
    "paper",
    "published, points",
    "data",
    "hierarchy",
    "random groups of the same sizes",
    "flat, with its training operations",
)
_REPORT = (
    " The report prints one gain and one loss over flat, and concludes itself that the tree does not "
    "improve the accuracy (section 5.1.1)."
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
    note: str = ""
    """Sentences that follow the verdict."""

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
        """Returns the verdict, and how often the controls gain as much."""
        ahead = [name for name, values in self.ours.items() if statistics.mean(values) >= LEVEL]
        if not ahead:
            return (
                f"- **{self.paper}: ahead of its own flat network in none of {len(self.ours)} "
                f"rows.**{self.note}"
            )
        controls = {
            "a flat network that trains as long gains more": self._as_good(self.longer, ahead),
            "random groups do as well": self._as_good(self.random, ahead, slack=LEVEL),
        }
        texts = [
            f"{text} in {as_good} of {compared}"
            for text, (as_good, compared) in controls.items()
            if compared
        ]
        controlled = f" Of those that have the control, {', '.join(texts)}." if texts else ""
        return (
            f"- **{self.paper}: ahead of its own flat network in {len(ahead)} of {len(self.ours)} "
            f"rows, with more training.**{controlled}{self.note}"
        )

    def _as_good(
        self, control: _Gains, ahead: Sequence[str], *, slack: float = 0
    ) -> tuple[int, int]:
        """Returns in how many of `ahead` a control gains as much, less `slack` points, and of how many."""
        compared = [name for name in ahead if name in control]
        as_good = [
            name
            for name in compared
            if statistics.mean(control[name]) >= statistics.mean(self.ours[name]) - slack
        ]
        return len(as_good), len(compared)


def claims() -> str:
    """Returns the table of gains, and one sentence for each of the five papers."""
    tabulated = _claims()
    rows = [row for claim in tabulated for row in claim.rows()]
    sentences = [*(claim.sentence() for claim in tabulated), _adaptation()]
    return "\n\n".join([table(_COLUMNS, rows), "\n".join(sentences)])


def _claims() -> list[_Claim]:
    accuracy = {(row.architecture, row.data): row.msr for row in published.ACCURACY}
    trees = [accuracy["hierarchical", data] - accuracy["flat", data] for data in ("D25", "D123")]
    hiernet = [row.full - row.flat for row in published.HIERNET]
    errors = {row.model: row.ten_views or 0.0 for row in published.HDCNN}
    hdcnn = [errors["NIN, the flat network"] - errors["HD-CNN"]]
    models = [cells for name, cells in published.DHNN.items() if name != "flat CNN"]
    dhnn = [
        # A path is right only if its nodes are: a cell that says otherwise has them exchanged.
        max(cell.path for cell in cells if cell.path < cell.node) - flat.path
        for flat, *cells in zip(published.DHNN["flat CNN"], *models, strict=True)
    ]
    resnet20 = recorded("cifar100_resnet20")
    sets = by_budget() | {f"CIFAR-100, ResNet-20, at {flat_epochs(resnet20)} epochs": resnet20}
    by_recipe = sets | {"demo, the report's recipe": recorded("report_demo")}
    # One route for the report; all branches where the paper's figure is of all.
    return [
        _claim("Uppsala report", trees, by_recipe, "uppsala", measure="msr", note=_REPORT),
        _claim("HierNet", hiernet, sets, "hiernet", measure="msr_full"),
        _claim("HD-CNN", hdcnn, sets, "hdcnn", measure="msr_full"),
        _claim("DHNN", dhnn, sets, "dhnn", measure="msr_full", note=_decoders()),
    ]


def _claim(
    paper: str,
    figures: Sequence[float],
    sets: dict[str, Records],
    method: str,
    *,
    measure: str,
    note: str = "",
) -> _Claim:
    runs = {method: measure, f"{method}_random": measure, f"{method}_train_flops": "msr"}
    gains = (_gains(sets, run, kind) for run, kind in runs.items())
    return _Claim(paper, figures, *gains, note)


def _decoders() -> str:
    """Returns how the published figures of DHNN differ from ours, and what its decoders gain here."""
    records = recorded("methods")
    gains = [
        value
        for run in ("dhnn_s2s", "dhnn_given_deep_s2s")
        for value in differences(records, run, measure="msr_full")
    ]
    return (
        " The published figures are of CNN-S2S, in F1 of paths; the runs here are of the recurrent "
        f"variant, in accuracy. The {len(gains)} recorded runs of S2S (demo at "
        f"{flat_epochs(records)} epochs) are at {span(gains, '{:+.1f}'.format)} points to flat."
    )


def _gains(sets: dict[str, Records], run: str, measure: str) -> _Gains:
    gains = {
        name: differences(records | {run: _at_its_cost(records, run)}, run, measure=measure)
        for name, records in sets.items()
    }
    return {name: values for name, values in gains.items() if values}


def _at_its_cost(records: Records, run: str) -> dict[int, dict[str, Any]]:
    """Returns a run without the controls that ended early, at another cost than they should have."""
    return {
        seed: record
        for seed, record in records.get(run, {}).items()
        if not (match := record["fit"].get("match")) or abs(match["ratio"] - 1) <= TOLERANCE
    }


def _cell(gains: _Gains, name: str) -> str:
    if name not in gains:
        return ""
    return f"{statistics.mean(gains[name]):+.1f} ({len(gains[name])})"


def _adaptation() -> str:
    """Returns the sentence on Dutt and others, who print directions and no table."""
    adapted, shuffled = (
        [
            result["test"]
            for details in measured("adaptation").values()
            for run, seeds in details["runs"].items()
            for result in seeds.values()
            if run.endswith("_random") is is_random
        ]
        for is_random in (False, True)
    )
    labels, categories = (_raised(adapted, level) for level in ("fine", "coarse"))
    pairs = [
        (result["test"], details["runs"]["merged_apart"][seed]["test"])
        for details in measured("adaptation").values()
        for run in _MERGED
        for seed, result in details["runs"].get(run, {}).items()
        if seed in details["runs"].get("merged_apart", {})
    ]
    ahead = sum(test["fine"]["1.0"] > apart["fine"]["1.0"] for test, apart in pairs)
    return (
        f"- **Merged networks (Dutt and others): adaptation {_verdict(labels, len(adapted))} in "
        f"direction, merging {_verdict(ahead, len(pairs))}.** Adaptation (alpha 1 against alpha 0) "
        f"raises the accuracy of labels in {labels} of {len(adapted)} trainings, and that of "
        f"categories in {categories}. With random categories it raises that of labels in "
        f"{_raised(shuffled, 'fine')} of {len(shuffled)}. Networks that share one or two of three "
        f"stages are more accurate than two separate ones in {ahead} of {len(pairs)} trainings (labels, "
        "alpha 1); the separate ones train for more operations."
    )


def _verdict(agreeing: int, trainings: int) -> str:
    return "reproduced" if agreeing > trainings / 2 else "not reproduced"


def _raised(tests: Iterable[Any], level: str) -> int:
    return sum(test[level]["1.0"] > test[level]["0.0"] for test in tests)
