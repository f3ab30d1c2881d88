"""The adaptation benchmark: curves, agreement, ensembles, training time, runs outside the bar."""

import json
import logging
import math

import numpy as np
import pytest
import torch

from benchmarks import adaptation
from benchmarks.adaptation import HeadOutputs
from benchmarks.shared import differences
from personae import files, tables
from train import backbone, fit, saved
from train.data import augment, images
from train.data.images import open_split
from train.engine import loop
from train.evaluation import prediction
from train.methods import METHODS
from train.methods.merged import adaptation as rule
from train.tree import hierarchy

NETWORK = backbone.Params(widths=(4, 8, 8, 8, 8), dense=16, dropout=0.0, noise=0.0)
LOOP = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
PARENTS = torch.tensor([0, 0, 1, 1])
WORKED = [0.20, 0.10, 0.25, 0.25, 0.15, 0.05]  # parents (0, 0, 1, 1, 2, 2)
GIVEN, SHUFFLED = [[0, 1], [2, 3]], [[0, 2], [1, 3]]
KEYS = ("level", "first", "second")
SAID = {
    # adaptation corrects the labels of images of label 0; the categories stay right
    "merged": ([0.7, 0.3], [0.25, 0.1, 0.35, 0.3]),
    # correct at every alpha below 2
    "merged_1": ([0.7, 0.3], [0.4, 0.2, 0.2, 0.2]),
    # label accuracy rises as in `merged`; category accuracy falls
    "merged_random": ([0.55, 0.45], [0.25, 0.35, 0.05, 0.35]),
}


def answers(coarse, fine, labels, parents=PARENTS):
    coarse, fine = (torch.tensor(rows, dtype=torch.float64) for rows in (coarse, fine))
    return HeadOutputs(coarse, fine, torch.tensor(labels), parents)


@pytest.fixture
def drawn():
    """Builds the head outputs of one seed for random images: `drawn(0)` gives both splits."""

    def build(seed, *, pictures=40):
        random = np.random.default_rng(seed)
        labels = np.random.default_rng(99).integers(4, size=pictures)
        return {
            split: answers(
                random.dirichlet([1, 1], size=pictures),
                random.dirichlet([1] * 4, size=pictures),
                labels,
            )
            for split in adaptation.SPLITS
        }

    return build


def test_ensemble_is_the_mean_of_each_side(drawn):
    """The ensemble averages probabilities per level and keeps labels and parents."""
    one, other = drawn(0), drawn(1)
    both = adaptation.averaged([one, other])["test"]

    assert torch.allclose((one["test"].coarse + other["test"].coarse) / 2, both.coarse)
    assert torch.allclose((one["test"].fine + other["test"].fine) / 2, both.fine)
    assert torch.equal(one["test"].labels, both.labels)
    assert torch.equal(PARENTS, both.parents)


def test_adapting_before_the_mean_is_another_ensemble():
    """Adapting members first predicts label 0 (.275); adapting their mean, label 1 (.4375)."""
    agreed = answers([[0.5, 0.5]], [[0.3, 0.2, 0.25, 0.25]], [0])  # all alphas tie: 1
    members = {
        0: {"val": agreed, "test": answers([[1.0, 0.0]], [[0.1, 0.0, 0.5, 0.4]], [1])},
        1: {"val": agreed, "test": answers([[0.5, 0.5]], [[0.0, 0.5, 0.25, 0.25]], [1])},
    }
    (row,) = adaptation.ensembles(members)["2"]

    assert ([0, 1], {"coarse": 1.0, "fine": 1.0}) == (row["seeds"], row["alpha"])
    assert 1.0 == row["test"]["fine"]["chosen"]
    assert {"coarse": 1.0, "fine": 0.0} == row["adapted_before"]


@pytest.mark.parametrize(
    ("seeds", "possible", "left_out"),
    [(1, [], [2, 4]), (2, [2], [4]), (3, [2, 3], [4]), (4, [2, 4], []), (5, [2, 4], [])],
)
def test_sizes_of_ensembles(seeds, possible, left_out):
    """The sizes are those of the paper that have enough seeds; three seeds also allow size 3."""
    assert (possible, left_out) == adaptation.sizes(seeds)


def test_every_choice_of_seeds_is_an_ensemble(drawn):
    """Three seeds give three pairs and one triple; each has the accuracy of its own mean."""
    members = {seed: drawn(seed) for seed in (0, 1, 4)}
    found = adaptation.ensembles(members)
    pair = adaptation.measure(adaptation.averaged([members[0], members[4]]))

    assert [[0, 1], [0, 4], [1, 4]] == [row["seeds"] for row in found["2"]]
    assert [[0, 1, 4]] == [row["seeds"] for row in found["3"]]
    assert pair["test"] == found["2"][1]["test"]


def test_agreement_before_and_after():
    """Adapting only the coarse level halves `mass_apart`; adapting both levels removes it."""
    tree = torch.tensor([0, 0, 1, 1, 2, 2])
    found = answers([[0.6, 0.2, 0.2], [0.3, 0.5, 0.2]], [WORKED, WORKED], [0, 2], tree)
    told = adaptation.agreement(found, {"coarse": 1.0, "fine": 0.0})

    assert ["none", "chosen", "full"] == list(told)
    for name, (apart, same) in {"none": (0.15, 0.5), "chosen": (0.075, 0.5)}.items():
        assert math.isclose(apart, told[name]["mass_apart"])
        assert same == told[name]["same_category"]
    assert math.isclose(0, told["full"]["mass_apart"], abs_tol=1e-12)
    assert 1.0 == told["full"]["same_category"]


def test_measured_curve_and_what_is_read_from_it(drawn):
    """Test accuracies at alpha 0, 1, 2 and the validation optimum equal the per-image results."""
    both = drawn(3)
    found = adaptation.measure(both)
    each = adaptation.correct_by_alpha(both["test"], found["alpha"])

    for level in differences.LEVELS:
        val, test = (found["curves"][split][level] for split in adaptation.SPLITS)
        chosen = rule.GRID.index(found["alpha"][level])
        assert max(val) == val[chosen]
        assert [test[0], test[10], test[20], test[chosen]] == list(found["test"][level].values())
        assert test == each.correct[level].mean(axis=1).tolist()
    assert (found["alpha"], (0, 0, 1, 1)) == (each.chosen, each.parents)


def test_scatter_picks_members_and_others():
    """The points are P_c and Q of the category, first for its own images, then for other labels."""
    coarse = [[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7], [0.7, 0.3]]
    fine = [[p, 0.05, 0.9 - p, 0.05] for p in (0.5, 0.1, 0.6, 0.2, 0.3)]
    found = adaptation.scatter(answers(coarse, fine, [0, 3, 1, 2, 1]), category=0, points=2)

    assert (0, [0.9, 0.8]) == (found["category"], found["members"]["P_c"])
    assert np.allclose([0.55, 0.65], found["members"]["Q"])
    assert np.allclose([[0.4, 0.3], [0.15, 0.25]], list(found["others"].values()))


def write_fit(folder, *, seconds, flops, separate=False):
    folder.mkdir(parents=True)
    networks = [{"train_flops": one} for one in flops]
    files.write_json(folder / "fit.json", {"total_seconds": seconds, "networks": networks})
    files.write_json(folder / "model.json", {"params": {"merged": {"separate": separate}}})


def test_training_beside_two_separate_networks(tmp_path):
    """Values are means over seeds; half the time and a quarter of the FLOPs give .5 and .25."""
    for seed, seconds in ((0, 20.0), (1, 40.0)):
        write_fit(tmp_path / "merged" / str(seed), seconds=seconds, flops=[1e9])
    write_fit(tmp_path / "apart" / "0", seconds=60.0, flops=[3e9, 1e9], separate=True)
    found = adaptation.trained(tmp_path, {"merged": [0, 1], "apart": [0]})
    alone = adaptation.trained(tmp_path, {"merged": [0, 1]})

    assert {"seconds": 30.0, "train_flops": 1e9, "seconds_ratio": 0.5, "flops_ratio": 0.25} == (
        found["merged"]
    )
    assert (1.0, 1.0) == (found["apart"]["seconds_ratio"], found["apart"]["flops_ratio"])
    assert {"seconds": 30.0, "train_flops": 1e9} == alone["merged"]


def write_clusters(root, seed):
    folder = root / "data" / "clustering" / str(seed)
    folder.mkdir(parents=True)
    for name, clusters in (("given", GIVEN), ("random_given", SHUFFLED)):
        document = {"labels": ["ann", "bea", "cem", "dua"], "clusters": clusters}
        files.write_json(folder / f"{name}.json", document)


@pytest.fixture
def places(tmp_path, shard_writer):
    """Writes shards (5 test images of label 0, 1 per other label) and clusters of 2 seeds."""
    write, manifest = shard_writer
    shards = write(tmp_path / "data" / "shards", {"train": 6, "val": 4})
    other = write(tmp_path / "other", {"test": 1}, leaves=(0, 0, 0, 0, 0, 1, 2, 3))
    (other / "test-000000.tar").rename(shards / "test-000000.tar")
    entries = [
        files.read_json(one / "manifest.json", stage="shards")["shards"] for one in (shards, other)
    ]
    manifest(shards, [*entries[0], *entries[1]])
    for seed in (0, 1):
        write_clusters(tmp_path, seed)
    return {f"{name}_dir": tmp_path / name for name in ("data", "results", "work")}


def train(name, seed, places, *, grouping="given", **own):
    """Trains a run for one epoch, then sets the output layers to the same logits for any image."""
    settings = fit.RunSettings(
        method="merged",
        grouping=grouping,
        own=METHODS["merged"].Params(**own),
        data=images.Params(batch_size=16),
        augment=augment.Params(),
        backbone=NETWORK,
        loop=LOOP,
    )
    folder = fit.run(settings, name=name, seed=seed, **places)
    run = saved.load(folder)
    for part, row in zip(
        (run.classifier.network.coarse, run.classifier.network.fine), SAID[name], strict=True
    ):
        torch.nn.init.zeros_(part.head.predictions.weight)
        part.head.predictions.bias.data = torch.tensor(row).log()
    save_beside_figures(folder, run.classifier, run.model)


def save_beside_figures(folder, classifier, model):
    """Saves other weights, and keeps the figures of the training, which `save` removes."""
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    saved.save(folder, classifier, model)
    for path in kept.keys() - set(folder.iterdir()):
        path.write_bytes(kept[path])


def write_tree(folder, places, *, method, clusters, coarse, fine):
    """Writes a run that has only a tree and predictions."""
    tree = hierarchy.from_clusters(clusters, 4) if clusters else hierarchy.flat(4)
    folder.mkdir(parents=True)
    facts = {
        "method": method,
        "run": folder.parent.name,
        "seed": int(folder.name),
        "grouping": "given" if clusters else None,
        "hierarchy": hierarchy.to_json(tree),
    }
    files.write_json(folder / "model.json", facts)
    parts = []
    for split in adaptation.SPLITS:
        pictures = open_split(places["data_dir"] / "shards", places["work_dir"] / "cache", split)
        rows = [np.tile(np.float32(row), (len(pictures.labels), 1)) for row in (fine, coarse)]
        outputs = prediction.Predictions(rows[0], None, rows[1], {})
        parts.append(prediction.table(outputs, pictures, split=split))
    tables.write(folder / "predictions.parquet", tables.pa.concat_tables(parts))


def test_bar_and_value_leave_random_groups_out(places, caplog):
    """Labels gain .5, .5, 0, 0 and categories 0; losses of the random control do not count."""
    for seed in (0, 1):
        train("merged", seed, places)
        train("merged_1", seed, places, merge=1, alpha_fine=0.0)
    train("merged_random", 0, places, grouping="random_given")
    results = places["results_dir"]
    write_tree(
        results / "flat" / "0",
        places,
        method="flat",
        clusters=None,
        coarse=[1.0],
        fine=SAID["merged"][1],
    )
    write_tree(
        results / "tree" / "0",
        places,
        method="uppsala",
        clusters=GIVEN,
        coarse=SAID["merged"][0],
        fine=[0.25] * 4,
    )
    with caplog.at_level(logging.INFO, logger="benchmarks.adaptation"):
        found = adaptation.run(**places)
    details = found.details
    pairs = {(row["first"], row["second"]) for row in details["tests"]}
    (row,) = (
        row
        for row in details["tests"]
        if ("fine", "merged at 1.0", "merged at 0.0") == tuple(row[key] for key in KEYS)
    )

    assert (0.25, True, [0.5, 0.5, 0.0, 0.0]) == (found.value, found.ok, found.runs)
    assert {"coarse": [0.0] * 4, "fine": found.runs} == details["gains"]
    assert {"coarse": [-0.5], "fine": [0.5]} == details["gains_random"]
    assert (["merged_random"], 3) == (details["random"], len(details["runs"]))
    assert {"merged": [4], "merged_1": [4], "merged_random": [2, 4]} == (
        details["ensembles_left_out"]
    )
    assert "merged: 2 seeds, no ensembles of [4]" in caplog.messages
    assert ["2"] == list(details["ensembles"]["merged"])
    # `merged_1` has a fixed alpha and `merged_random` is a control: no test compares two runs
    assert not [pair for pair in pairs if pair[0].split()[0] != pair[1].split()[0]]
    assert ([5, 5], [1, 1], [14 / 64] * 2) == (row["fixed"], row["broken"], row["p_mcnemar"])
    assert 0.625 == details["flat"]["tree"][0]["test"]["fine"]["1.0"]
    assert 0.125 == details["flat"]["tree"][0]["test"]["fine"]["0.0"]
    assert details["training"]["merged"]["seconds"] > 0
    assert (
        len(rule.GRID)
        == len(details["alphas"])
        == len(details["runs"]["merged"][0]["curves"]["val"]["fine"])
    )
    assert len(json.dumps(details, allow_nan=False, indent=1)) < 60_000


def test_bar_is_missed_by_a_loss_of_either_level(places):
    """A run with a predicted grouping misses the bar if only its label accuracy rises."""
    train("merged_random", 0, places, grouping="random_given")
    with pytest.raises(SystemExit, match="given or predicted"):
        adaptation.run(**places)
    folder = places["results_dir"] / "merged_random" / "0"
    trained = saved.load(folder)
    model = trained.model.model_copy(update={"grouping": "modularity"})
    save_beside_figures(folder, trained.classifier, model)
    found = adaptation.run(**places)

    assert (False, [0.5], [-0.5]) == (found.ok, found.runs, found.details["gains"]["coarse"])


def test_flat_network_needs_a_partition_and_predictions(places):
    """A run without predictions or with a label in two clusters has no curve."""
    results = places["results_dir"]
    write_tree(
        results / "flat" / "0", places, method="flat", clusters=None, coarse=[1.0], fine=[0.25] * 4
    )
    write_tree(
        results / "tree" / "0",
        places,
        method="uppsala",
        clusters=GIVEN,
        coarse=[0.5, 0.5],
        fine=[0.25] * 4,
    )
    path = results / "tree" / "0" / "model.json"
    flat, tree = results / "flat" / "0", results / "tree" / "0"
    whole = adaptation.of_flat(tree, flat)
    (tree / "predictions.parquet").rename(tree / "kept.parquet")
    absent = adaptation.of_flat(tree, flat)
    (tree / "kept.parquet").rename(tree / "predictions.parquet")
    cover = hierarchy.to_json(hierarchy.from_cover([[0, 1, 2], [2, 3]], 4))
    files.write_json(path, json.loads(path.read_text()) | {"hierarchy": cover})

    assert ((16, 2), (8, 4)) == (whole["val"].coarse.shape, whole["test"].fine.shape)
    assert [0, 0, 0, 0, 0, 1, 2, 3] == sorted(whole["test"].labels.tolist())
    assert absent is None
    assert adaptation.of_flat(tree, flat) is None


def test_figures_of_the_details_are_short():
    """Figures are rounded to five significant digits; other values stay the same."""
    found = adaptation._short({"p": [1 / 3, 1.23456789e-9], 0: (None, True, 123456789, "as is")})

    assert {"p": [0.33333, 1.2346e-9], 0: [None, True, 123456789, "as is"]} == found
