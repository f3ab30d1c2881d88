"""
Summarises one run: accuracy, mistakes and cost over its seeds, and its difference to flat.

Takes results as read from disk. Gives one summary for each run and mode. Mode `default` is the
forward pass that the run's method uses by default: over one route, or over several branches. Mode
`full` is the forward pass over all branches. The metrics are defined in docs/methods/evaluation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from train.evaluation.metrics import (
    average_cost,
    confusion_counts,
    consistency,
    hierarchical_distance,
    micp,
    msr,
    msr_macro,
    msr_per_label,
    node_accuracy,
    node_f1,
    normalise_rows,
    path_f1,
    severity,
)
from train.evaluation.statistics import Flips, flips, paired_interval
from train.page.cost import RunCost, cost_of
from train.page.differences import PairedDifference, t_interval
from train.page.results import ComparedRun, Results, TrainedRun
from train.page.spread import Spread
from train.tree import label_path
from train.tree.hierarchy import (
    clusters,
    from_nested,
    heights,
    membership,
    nodes_of_paths,
    parents,
)


@dataclass(frozen=True, slots=True)
class SeedPredictions:
    """The predicted labels of one run with one seed on the test images, in one mode."""

    trained: TrainedRun
    predicted: Int[np.ndarray, " image"]
    probabilities: Float[np.ndarray, "image leaf"]

    @property
    def correct(self) -> Bool[np.ndarray, " image"]:
        """Says of each image whether the predicted label is the true label."""
        return np.asarray(self.trained.label == self.predicted)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One row of the results table. Shares are in 0..1; differences are to the flat run."""

    run: ComparedRun
    mode: str
    predictions: Mapping[int, SeedPredictions]
    msr: Spread
    msr_macro: Spread
    msr_white: Spread | None
    micp: Spread
    micp_own: Spread | None
    wrong_inside: Spread  # wrong label, right reference cluster
    wrong_across: Spread  # wrong reference cluster
    path_f1: Spread
    cost: RunCost
    consistency: Spread | None = (
        None  # of the predicted label with the own cluster of highest probability
    )
    severity: Spread | None = None  # of mistakes in the given tree; None without one
    average_cost: Spread | None = None  # the same over all images; a right image counts 0
    distance_at_5: Spread | None = None  # mean height over the 5 likeliest labels
    node_f1: Spread | None = None  # of the nodes of true and predicted path in that tree
    node_accuracy: Spread | None = None  # of those nodes, level by level
    difference: PairedDifference | None = None
    difference_white: PairedDifference | None = None
    change_inside: PairedDifference | None = None  # of `wrong_inside`
    change_across: PairedDifference | None = None  # of `wrong_across`
    flips: Mapping[int, Flips] = field(default_factory=dict)
    p_values: Mapping[int, float] = field(default_factory=dict)  # after Holm, over the table

    @property
    def name(self) -> str:
        """The name of the run, with the mode where it is not the default."""
        return self.run.name if self.mode == "default" else f"{self.run.name} ({self.mode})"


def shares(
    predictions: Mapping[int, SeedPredictions], leaves: int
) -> Float[np.ndarray, "leaf leaf"]:
    """Returns the row-normalised test confusion, averaged over seeds; rows are true labels."""
    each = [
        normalise_rows(confusion_counts(each.trained.label, each.predicted, leaves=leaves))
        for each in predictions.values()
    ]
    return np.asarray(np.mean(each, axis=0))


def per_label(
    predictions: Mapping[int, SeedPredictions], leaves: int
) -> Float[np.ndarray, " leaf"]:
    """Returns the accuracy of each label, mean over seeds; NaN for a label without test images."""
    each = [
        msr_per_label(each.trained.label, each.predicted, leaves=leaves)
        for each in predictions.values()
    ]
    return np.asarray(np.mean(each, axis=0))


def modes(run: ComparedRun) -> list[str]:
    """Returns the modes of a run: `default`, and `full` where its probabilities are stored."""
    has_full = all(trained.full is not None for trained in run.seeds.values())
    return ["default", "full"] if has_full else ["default"]


def predictions_of(run: ComparedRun, mode: str) -> dict[int, SeedPredictions]:
    """Returns the predictions of a run with each seed, in one mode."""
    predictions = {}
    for seed, trained in run.seeds.items():
        whole = trained.full if mode == "full" else None
        predictions[seed] = (
            SeedPredictions(trained, trained.predicted, trained.probabilities)
            if whole is None
            else SeedPredictions(trained, whole.argmax(axis=1), whole)
        )
    return predictions


def changes(
    after: Mapping[int, SeedPredictions], before: Mapping[int, SeedPredictions]
) -> dict[int, Float[np.ndarray, " image"]]:
    """
    Returns for each seed that both runs have the change of every image, in -1..1.

    An image's change is the correctness of `after` minus that of `before`.
    """
    return {
        seed: after[seed].correct.astype(float) - before[seed].correct
        for seed in after
        if seed in before
    }


def paired_difference(
    by_seed: Mapping[int, Float[np.ndarray, " image"]], *, resamples: int, seed: int
) -> PairedDifference:
    """
    Returns the mean change of each image and seed as a difference with its two intervals.

    Args:
        by_seed: The change of each image, for every seed that both runs have; at least one.
        resamples: Bootstrap resamples behind the interval over images.
        seed: Seed of the bootstrap.
    """
    of_images = np.asarray(np.mean([*by_seed.values()], axis=0))
    of_seeds = tuple(float(np.mean(change)) for change in by_seed.values())
    return PairedDifference(
        over_images=paired_interval(of_images, resamples=resamples, seed=seed),
        by_seed=of_seeds,
        over_seeds=t_interval(of_seeds),
    )


def summarise(
    results: Results, run: ComparedRun, mode: str, *, resamples: int, seed: int
) -> RunSummary:
    """Returns the numbers of a run in one mode; the p values are not corrected yet."""
    baseline = predictions_of(results.flat, "default")
    predictions, leaves = predictions_of(run, mode), len(results.labels)
    white = results.white
    confusions = {s: shares({s: each}, leaves) for s, each in predictions.items()}
    macro = [msr_macro(a.trained.label, a.predicted, leaves=leaves) for a in predictions.values()]
    reference = [micp(each, results.reference(s).clusters) for s, each in confusions.items()]
    inside, across = _mistakes(results, predictions)
    summary = RunSummary(
        run=run,
        mode=mode,
        predictions=predictions,
        msr=Spread(tuple(msr(each.trained.label, each.predicted) for each in predictions.values())),
        msr_macro=Spread(tuple(macro)),
        msr_white=_part(predictions, white),
        micp=Spread(tuple(reference)),
        micp_own=_own_micp(results, run, confusions),
        wrong_inside=inside,
        wrong_across=across,
        path_f1=Spread(tuple(path_f1(a.trained.label, a.predicted) for a in predictions.values())),
        cost=cost_of(results, run, mode),
        consistency=_consistency(predictions, leaves),
        **_in_given_tree(results, predictions),
    )
    if run is results.flat:
        return summary
    change = changes(predictions, baseline)
    changed = {s: flips(baseline[s].correct, predictions[s].correct) for s in predictions}
    inside_change, across_change = _changes_of_mistakes(results, predictions, baseline)
    compared = partial(paired_difference, resamples=resamples, seed=seed)
    return replace(
        summary,
        difference=compared(change),
        difference_white=(
            compared({s: values[white] for s, values in change.items()}) if white.any() else None
        ),
        change_inside=compared(inside_change),
        change_across=compared(across_change),
        flips=changed,
        p_values={s: each.p_value for s, each in changed.items()},
    )


def _part(
    predictions: Mapping[int, SeedPredictions], chosen: Bool[np.ndarray, " image"]
) -> Spread | None:
    """The accuracy on the chosen images; None where none is chosen."""
    if not chosen.any():
        return None
    return Spread(tuple(float(each.correct[chosen].mean()) for each in predictions.values()))


def _own_micp(
    results: Results, run: ComparedRun, confusions: Mapping[int, Float[np.ndarray, "leaf leaf"]]
) -> Spread | None:
    values = []
    for seed, shared in confusions.items():
        own = results.own(run, seed)
        if own is None:
            return None
        values.append(micp(shared, own.clusters))
    return Spread(tuple(values))


def _consistency(predictions: Mapping[int, SeedPredictions], leaves: int) -> Spread | None:
    """The share of images whose predicted label lies in the own cluster of highest probability."""
    values = []
    for each in predictions.values():
        if each.trained.coarse is None:
            return None
        groups = clusters(each.trained.hierarchy)
        likeliest = each.trained.coarse.argmax(axis=1)
        values.append(consistency(each.predicted, likeliest, membership(groups, leaves)))
    return Spread(tuple(values))


def _mistakes(
    results: Results, predictions: Mapping[int, SeedPredictions]
) -> tuple[Spread, Spread]:
    """The shares of images with a wrong label inside, and outside the true reference cluster."""
    inside, across = [], []
    for seed, predicted in predictions.items():
        wrong_inside, wrong_across = _wrong(results, seed, predicted)
        inside.append(float(np.mean(wrong_inside)))
        across.append(float(np.mean(wrong_across)))
    return Spread(tuple(inside)), Spread(tuple(across))


def _wrong(
    results: Results, seed: int, predicted: SeedPredictions
) -> tuple[Bool[np.ndarray, " image"], Bool[np.ndarray, " image"]]:
    cluster = parents(results.reference(seed).clusters)
    same = cluster[predicted.trained.label] == cluster[predicted.predicted]
    return same & ~predicted.correct, ~same


def _changes_of_mistakes(
    results: Results,
    after: Mapping[int, SeedPredictions],
    before: Mapping[int, SeedPredictions],
) -> tuple[dict[int, Float[np.ndarray, " image"]], dict[int, Float[np.ndarray, " image"]]]:
    """For each seed, the change of every image's mistakes inside and across reference clusters."""
    inside, across = {}, {}
    for seed, predicted in after.items():
        ours, theirs = _wrong(results, seed, predicted), _wrong(results, seed, before[seed])
        inside[seed] = ours[0].astype(float) - theirs[0]
        across[seed] = ours[1].astype(float) - theirs[1]
    return inside, across


def _in_given_tree(results: Results, predictions: Mapping[int, SeedPredictions]) -> dict[str, Any]:
    """Measures of the mistakes in the given tree, by field of `RunSummary`; empty without a tree."""
    measures: dict[str, list[float]] = {}
    for seed, each in predictions.items():
        given = results.given(seed)
        if given is None:
            return {}
        tree = from_nested(given.tree, len(results.labels))
        label, predicted, height = each.trained.label, each.predicted, heights(tree)
        level = label_path.encode(tree).targets()
        for name, value in {
            "severity": severity(label, predicted, height),
            "average_cost": average_cost(label, predicted, height),
            "distance_at_5": hierarchical_distance(each.probabilities, label, height, k=5),
            "node_f1": node_f1(label, predicted, nodes_of_paths(tree)),
            "node_accuracy": node_accuracy(level[label], level[predicted]),
        }.items():
            measures.setdefault(name, []).append(value)
    return {name: Spread(tuple(values)) for name, values in measures.items()}
