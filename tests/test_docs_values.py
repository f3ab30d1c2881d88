"""Tests that the worked values on the method pages are the values that the code computes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
METHODS = ROOT / "docs" / "methods"
M6 = np.array(
    [
        [0.70, 0.15, 0.10, 0.03, 0.01, 0.01],
        [0.20, 0.60, 0.12, 0.04, 0.02, 0.02],
        [0.10, 0.15, 0.65, 0.05, 0.03, 0.02],
        [0.02, 0.03, 0.03, 0.72, 0.18, 0.02],
        [0.01, 0.02, 0.02, 0.25, 0.68, 0.02],
        [0.01, 0.01, 0.01, 0.02, 0.01, 0.94],
    ]
)
"""The confusion matrix of the worked examples on the method pages."""
CLUSTERS = [[0, 1, 2], [3, 4], [5]]


def _page(name):
    return (METHODS / f"{name}.md").read_text()


def _row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def _sets(clusters):
    return ", ".join("{" + ", ".join(map(str, sorted(one))) + "}" for one in clusters)


def _sizes(name, *, labels, side):
    from train import backbone
    from train.params.backbone import Params

    network = backbone.build(Params(name=name), outputs=labels, side=side)
    parameters = sum(weight.numel() for weight in network.parameters())
    return parameters, sum(backbone.macs_of_blocks(network)) + backbone.macs_of_head(network.head)


@pytest.mark.parametrize("labels", [25, 100, 123])
def test_flat_values_hold(labels):
    """The page has the parameters and MACs of the report's network."""
    assert _row(labels, *_sizes("uppsala_cnn", labels=labels, side=128)) in _page("flat")


@pytest.mark.parametrize(
    ("name", "side"), re.findall(r"^\| `(\w+)` \| (\d+) \| \d+ \|", _page("flat"), re.MULTILINE)
)
def test_sizes_of_networks_hold(name, side):
    """The page has the parameters and MACs of each network with 100 labels."""
    sizes = _sizes(name, labels=100, side=int(side))

    assert _row(f"`{name}`", side, *sizes) in _page("flat")


@pytest.mark.parametrize(
    ("name", "clusters"),
    [
        (None, CLUSTERS),
        (None, [[0, 1, 2], [3, 4, 5]]),
        ("all together", [[0, 1, 2, 3, 4, 5]]),
        ("all apart", [[label] for label in range(6)]),
        (None, [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_uppsala_values_hold(name, clusters):
    """The page has MICP, its expectation for random clusters, and the excess."""
    from train.evaluation import metrics

    random = metrics.micp_random(M6, [len(cluster) for cluster in clusters])
    values = (metrics.micp(M6, clusters), random, metrics.micp_excess(M6, clusters))

    cells = [f"{value + 0.0:.6f}".replace("-0.000000", "0.000000") for value in values]
    assert _row(name or _sets(clusters), *cells) in _page("uppsala")


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 1.5, 2])
def test_merged_values_hold(alpha):
    """The page has the categories and the labels after adaptation."""
    from train.methods.merged import adaptation

    coarse = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    fine = torch.tensor([[0.20, 0.10, 0.25, 0.25, 0.15, 0.05]], dtype=torch.float64)
    parents = torch.tensor([0, 0, 1, 1, 2, 2])
    adapted = [
        adapt(coarse, fine, parents, alpha=alpha)[0].numpy()
        for adapt in (adaptation.adapt_coarse, adaptation.adapt_fine)
    ]

    cells = [" ".join(f"{value:.6f}"[1:] for value in row) for row in adapted]
    # Rounded: on equal probabilities the lower label wins.
    predicted = int(adapted[1].round(9).argmax())
    assert _row(alpha, *cells, predicted) in _page("merged")


def test_dhnn_values_hold():
    """The page has the losses of the two steps and the decoded labels of beam widths 1 and 2."""
    from torch.nn.functional import cross_entropy

    logits = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 3, 2]])
    losses = [
        float(cross_entropy(row, torch.tensor(node)))
        for row, node in zip(logits, (1, 5), strict=True)
    ]
    page = _page("dhnn")

    assert f"lose {losses[0]:.6f} and {losses[1]:.6f}, together {sum(losses):.6f}" in page
    assert _decoded(1) in page
    assert _decoded(2) in page


def _decoded(width):
    from train.methods.dhnn import beam
    from train.tree import hierarchy, label_path

    # Leaves: C and D are below A; E, F and G are below B.
    tree = hierarchy.from_clusters([[0, 1], [2, 3, 4]], 5)
    levels = label_path.levels(label_path.encode(tree).sequences)
    steps = (torch.tensor([[0.3, 0.4]]), torch.tensor([[0.1, 0.6, 0.1, 0.1, 0.3]]))
    scores, _ = beam.search(
        levels,
        lambda number, _: steps[number].log()[:, :, None],
        batch=1,
        width=width,
        device=torch.device("cpu"),
    )
    best = int(scores.argmax())
    path = ("A, C", "A, D", "B, E", "B, F", "B, G")[best]
    return _row(width, path, f"{scores.exp()[0, best]:.2f}")


def test_hiernet_values_hold():
    """The page has P(label), its loss, and the groups of average linkage."""
    from train.grouping import average_linkage

    groups, inside = np.array([0.6, 0.4]), ([0.5, 0.3, 0.2], [0.9, 0.1])
    product = np.concatenate([q * np.array(r) for q, r in zip(groups, inside, strict=True)])
    page = _page("hiernet")

    assert _row("P", *(f"{value:.2f}" for value in product)) in page
    assert f"The loss of label 3 is {-np.log(product[3]):.6f}" in page
    for p_min, g_max in (("0.1", 50), ("0.05", 50), ("0.0001", 3), ("0.1", 2)):
        clusters = average_linkage.groups(M6, g_max=g_max, p_min=float(p_min))
        assert _row(p_min, g_max, _sets(clusters)) in page


def test_hdcnn_values_hold():
    """The page has consistency term, compression factor, weights and overlap sets."""
    from train.grouping import overlap
    from train.methods.hdcnn.consistency import Consistency
    from train.methods.hdcnn.quantise import Quantised

    page = _page("hdcnn")
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.6, 0.1, 0.3]])
    term = float(Consistency((0.4, 0.4, 0.2), 5.0).term(shares))
    packed = Quantised(np.zeros((64, 1000)), np.zeros((1000, 500), dtype=np.int64), 2)
    for gamma in (4, 5, 10):
        sets = overlap.grown(CLUSTERS, M6, gamma=gamma, largest=1.0)
        assert _row(gamma, _sets(sets)) in page
    coarse = np.array([0.30, 0.20, 0.15, 0.20, 0.10, 0.05])
    members = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]])
    weights = members @ coarse / (members @ coarse).sum()
    fine = np.array([[0.5, 0.3, 0.2, 0, 0, 0], [0, 0, 0.3, 0.6, 0.1, 0], [0, 0, 0, 0, 0, 1]])

    assert f"give {term:.6f}" in page
    assert f"a factor of {packed.factor:.6f}" in page
    assert _row("share", *(f"{value:.6f}" for value in weights)) in page
    assert _row("p", *(f"{value:.6f}" for value in weights @ fine)) in page


def test_grouping_values_hold():
    """The page has the sweep over resolutions and the gain of the first split."""
    from train.grouping import modularity
    from train.grouping.partition import affinity

    page = _page("grouping")
    candidates = modularity.sweep(M6, gammas=modularity.resolutions())
    selected = modularity.select(candidates)
    for first, last in ((2.0, 1.9), (1.8, 1.3), (1.2, 0.5), (0.4, 0.1)):
        ends = [one for one in candidates if one.gamma in (first, last)]
        shown = _sets(ends[0].clusters) if len(ends[0].clusters) > 1 else "one cluster"
        values = (f"{ends[0].micp:.6f}", f"{abs(ends[0].excess):.6f}")

        assert ends[0].clusters == ends[1].clusters
        assert _row(f"{first} to {last}", shown, *values)[:-1] in page
    surplus = modularity.modularity_matrix(affinity(M6), gamma=1.0)
    gain = modularity.modularity(surplus, [[0, 1, 2], [3, 4, 5]], float(affinity(M6).sum()))

    assert selected.gamma == 1.8
    assert selected.clusters == CLUSTERS
    assert f"$\\Delta Q$ = {gain:.6f}" in page


def test_training_values_hold():
    """The page has Nesterov's update, the decayed rate, the plateau rule and a cluster's quotas."""
    from personae.sampling import quotas
    from train.engine import schedule

    page = _page("training")
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimiser = schedule.Nesterov([weight], lr=0.1, momentum=0.5)
    updates = []
    for _ in range(3):
        weight.grad = weight.detach().clone()
        optimiser.step()
        updates.append(f"{weight.item():.6f}")
    plateau, halved = schedule.Plateau(), []
    for loss in (1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98):
        before, plateau = plateau.factor, plateau.after(loss)
        halved += [str(plateau.epoch)] if plateau.factor < before else []

    assert f"| {' '.join(updates)} |" in page
    assert f"| {schedule.decayed(1e-3, 13_740, decay=1e-5):.9f} |" in page
    assert plateau.stopped
    assert f"| {plateau.best_epoch}; {' and '.join(halved)}; {plateau.epoch} |" in page
    assert f"| {' '.join(map(str, quotas([100, 100, 100], 100)))} |" in page


@pytest.mark.parametrize(("group", "share"), [(1, "0.933888"), (2, "0.574839"), (6, "0.654698")])
def test_data_values_hold(group, share):
    """The page has the split of a group of duplicates."""
    from curation import split

    name = split.drawn(group, seed=0, train=0.6, val=0.15)

    assert _row(group, share, name) in _page("data")
    assert split.drawn(group, seed=0, train=float(share) + 1e-5, val=0.01) == "train"
    assert split.drawn(group, seed=0, train=float(share) - 1e-5, val=0.01) == "val"


def test_evaluation_values_hold():
    """The page has accuracy, calibration, the tests, and the greedy cover."""
    from benchmarks.shared import cover
    from train.evaluation import calibration, metrics, statistics

    page = _page("evaluation")
    labels, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    accuracy = (metrics.msr(labels, predicted), metrics.msr_macro(labels, predicted, leaves=2))
    confidences = np.array([0.95, 0.9, 0.85, 0.6, 0.55, 0.3])
    correct = np.array([True, True, False, True, False, False])
    p_values = [statistics.mcnemar(16, 6), statistics.mcnemar(5, 0)]
    weights = np.zeros((6, 6))
    for pair, count in {
        "01": 60,
        "02": 40,
        "12": 50,
        "23": 45,
        "34": 80,
        "45": 10,
        "05": 15,
    }.items():
        weights[int(pair[0]), int(pair[1])] = weights[int(pair[1]), int(pair[0])] = count / 1000
    chosen = cover.greedy_cover(weights, experts=3, largest=3)

    assert f"| {', '.join(f'{value:.6f}' for value in accuracy)} |" in page
    assert f"| {calibration.ece(confidences, correct, bins=5):.6f} |" in page
    brier = calibration.brier(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), np.array([0, 2]))
    assert f"with label 2 | {brier:.6f} |" in page
    heights, ranked = np.array([[0, 1, 2]] * 3), np.array([[0.4, 0.5, 0.1]])
    distance = metrics.hierarchical_distance(ranked, np.array([0]), heights, k=2)
    assert f"heights 1 and 0 | {distance:.6f} |" in page
    assert f"| {'; '.join(f'{value:.6f}' for value in p_values)} |" in page
    assert (
        f"| {' '.join(f'{value:.6f}' for value in statistics.holm([0.01, 0.04, 0.03]))} |" in page
    )
    for count in (1, 2, 3):
        held = cover.recoverable(weights, chosen[:count])
        assert _row(_sets([chosen[count - 1]]), f"{held:.3f}") in page


def test_recover_values_hold():
    """The page has the mixture of exit and tail, and the mass of the set."""
    from train.methods.recover import mixing

    page = _page("recover")
    exit_ = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    inside = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    members = torch.tensor([[True, True, False, False]])
    p = mixing.mixed(exit_, inside, members, mix=0.5)[0].tolist()

    assert f"| p | {' | '.join(f'{value:.2f}' for value in p)} |" in page
    assert f"The mass of $S$ is {mixing.masses(exit_, members).item():.2f}." in page
