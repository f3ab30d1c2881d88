"""Clusters from confusions: the worked values of methods.md 2.3, invariants, and the stage."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train import clustering, tables
from train.clustering import Params
from train.components import hierarchy, metrics
from train.errors import BadHierarchy, BadParams, MissingInput
from train.params import section

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


def blocks(sizes, *, inside=0.3):
    """A confusion with uniform blocks on the diagonal and no confusion elsewhere."""
    matrix = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for size in sizes:
        matrix[start : start + size, start : start + size] = inside / max(size - 1, 1)
        start += size
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, 1 - matrix.sum(axis=1))
    return matrix


def test_first_split_of_m6():
    """Degrees, 2m, leading eigenvalue, sides and gain are those of the worked example."""
    weights = clustering.affinity(M6)
    surplus = clustering.modularity_matrix(weights, gamma=1.0)
    sides = clustering.bisect(surplus, np.arange(6), total=1.71)

    assert np.allclose([0.32, 0.38, 0.315, 0.335, 0.285, 0.075], weights.sum(axis=1))
    assert np.isclose(1.71, weights.sum())
    assert np.isclose(0.178685, np.linalg.eigvalsh(surplus)[-1], atol=1e-6)
    assert sorted(map(list, sides)) == [[0, 1, 2], [3, 4, 5]]
    assert np.isclose(
        0.254420, clustering.modularity(surplus, [[0, 1, 2], [3, 4, 5]], 1.71), atol=1e-6
    )
    for side in sides:
        assert clustering.bisect(surplus, side, total=1.71) is None


def test_sweep_of_m6():
    """The sweep yields the four partitions at their resolutions and selects {012}{34}{5}."""
    candidates = clustering.sweep(M6, Params())
    by_gamma = {one.gamma: one for one in candidates}
    fine, chosen = [[0, 1], [2], [3, 4], [5]], [[0, 1, 2], [3, 4], [5]]

    assert {tuple(map(tuple, fine))} == {
        tuple(map(tuple, by_gamma[gamma].clusters)) for gamma in (2.0, 1.9)
    }
    assert all(by_gamma[round(1.3 + step / 10, 1)].clusters == chosen for step in range(6))
    assert all(
        by_gamma[round(0.5 + step / 10, 1)].clusters == [[0, 1, 2], [3, 4, 5]] for step in range(8)
    )
    assert all(len(by_gamma[round(step / 10, 1)].clusters) == 1 for step in range(1, 5))
    assert by_gamma[2.0].refused == "too_many_clusters"
    assert by_gamma[0.1].refused == "one_cluster"
    assert np.isclose(0.092, by_gamma[2.0].excess)
    assert (1.8, chosen) == (clustering.select(candidates).gamma, by_gamma[1.8].clusters)
    assert np.isclose(0.132333, clustering.select(candidates).excess, atol=1e-6)


def test_refinement_mends_a_bad_start():
    """Kernighan and Lin's passes lead from a wrong division of M6 to the best one."""
    surplus = clustering.modularity_matrix(clustering.affinity(M6), gamma=1.0)
    block = surplus - np.diag(surplus.sum(axis=1))
    signs = clustering.refine(block, np.array([1.0, 1, -1, -1, -1, 1]))

    assert np.isclose(0.254420, signs @ block @ signs / (2 * 1.71), atol=1e-6)


def test_identity_leaves_labels_apart():
    """Without any confusion every label stands alone, nothing is divided by zero."""
    weights = clustering.affinity(np.eye(5))

    assert clustering.communities(weights, gamma=1.0) == [[0], [1], [2], [3], [4]]
    with pytest.raises(BadHierarchy, match="No grouping of 5 labels"):
        clustering.select(clustering.sweep(np.eye(5), Params()))


def test_label_without_confusion_stands_alone():
    """A label with zero degree becomes a cluster of its own."""
    matrix = np.eye(5)
    matrix[:4, :4] = blocks([2, 2])

    assert clustering.communities(clustering.affinity(matrix), gamma=1.0) == [[0, 1], [2, 3], [4]]


def test_blocks_are_recovered():
    """Uniform diagonal blocks come back exactly at gamma 1; tiny gamma joins connected labels."""
    assert clustering.communities(clustering.affinity(blocks([3, 4, 2])), gamma=1.0) == [
        [0, 1, 2], [3, 4, 5, 6], [7, 8],
    ]  # fmt: skip
    assert len(clustering.communities(clustering.affinity(M6), gamma=1e-6)) == 1
    assert len(clustering.communities(clustering.affinity(M6), gamma=50.0)) == 6


@given(st.integers(0, 2**32 - 1), st.integers(4, 10))
def test_permuted_labels_permute_the_partition(seed, labels):
    """Renaming the labels renames the clusters and changes nothing else."""
    rng = np.random.default_rng(seed)
    matrix = rng.dirichlet(np.ones(labels) * 0.5, size=labels)
    order = rng.permutation(labels)
    weights = clustering.affinity(matrix)
    before = clustering.communities(weights, gamma=1.0)
    after = clustering.communities(weights[np.ix_(order, order)], gamma=1.0)

    assert before == sorted(sorted(int(order[place]) for place in group) for group in after)


def test_giant_cluster_is_refused():
    """A partition with more than half of the labels in one cluster is not selected."""
    candidates = clustering.sweep(blocks([5, 2]), Params(gamma_first=1.0))

    assert "giant_cluster" in {one.refused for one in candidates}


def test_random_clusters_keep_sizes():
    """The control has the same sizes, depends on the seed alone, and holds each label once."""
    chosen = [[0, 1, 2, 3], [4, 5], [6, 7, 8], [9]]
    drawn = clustering.shuffled(chosen, seed=1)

    assert sorted(map(len, chosen)) == sorted(map(len, drawn))
    assert list(range(10)) == sorted(leaf for group in drawn for leaf in group)
    assert drawn == clustering.shuffled(chosen, seed=1)
    assert drawn != clustering.shuffled(chosen, seed=2)


def write_flat(folder, *, families, seed=0, shuffle=False):
    """Writes validation predictions that confuse labels inside `families`."""
    rng = np.random.default_rng(seed)
    parents = hierarchy.parents(families)
    labels = np.repeat(np.arange(len(parents)), 30)
    near = parents[None, :] == parents[labels][:, None]
    weights = rng.gamma(1.0, size=near.shape) * np.where(near, 1.0, 0.05)
    weights[np.arange(len(labels)), labels] += 1.0
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    if shuffle:
        probabilities = probabilities[:, rng.permutation(len(parents))]
    predicted = probabilities.argmax(axis=1)
    folder.mkdir(parents=True)
    table = {"label": labels, "predicted": predicted, "probabilities": list(probabilities)}
    tables.write(folder / "validation.parquet", pa.table(table))
    names = [f"label_{leaf}" for leaf in range(len(parents))]
    (folder / "model.json").write_text(json.dumps({"labels": names}), encoding="utf-8")


def write_classes(data_dir, copyrights):
    """Writes what the data set tells of its labels."""
    (data_dir / "shards").mkdir(parents=True)
    told = {"labels": list(copyrights), "base": {}, "copyright": copyrights}
    (data_dir / "shards" / "classes.json").write_text(json.dumps(told), encoding="utf-8")


FAMILIES = [[0, 5, 7], [1, 2, 9], [3, 4, 11], [6, 8, 10]]


@pytest.mark.parametrize("confusion", ["counts", "soft"])
def test_stage_recovers_planted_families(tmp_path, confusion):
    """Families planted in the validation predictions come back, and are stable."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    write_classes(tmp_path / "data", {f"label_{leaf}": "one" for leaf in range(12)})
    folder = clustering.run(
        Params(confusion=confusion, bootstrap=20),
        data_dir=tmp_path / "data", results_dir=tmp_path / "results", seed=0,
    )  # fmt: skip
    found = json.loads((folder / "modularity.json").read_text())
    control = json.loads((folder / "random.json").read_text())

    assert sorted(FAMILIES) == found["clusters"]
    assert [f"label_{leaf}" for leaf in range(12)] == found["labels"]
    assert [True] == [row["selected"] for row in found["sweep"] if row["selected"]]
    assert found["stability"] > 0.9
    assert found["excess"] > 0.1
    assert [3, 3, 3, 3] == [len(group) for group in control["clusters"]]
    assert found["clusters"] != control["clusters"]
    assert control["excess"] < found["excess"]
    assert ["modularity.json", "random.json"] == sorted(path.name for path in folder.iterdir())


def test_families_of_the_data_are_a_grouping(tmp_path):
    """Labels of one copyright are a cluster of `given`, whose figures are of its own clusters."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    of_leaf = hierarchy.parents(FAMILIES)
    told = {f"label_{leaf}": f"work_{of_leaf[leaf]}" for leaf in reversed(range(12))}
    write_classes(tmp_path / "data", told)
    folder = clustering.run(
        Params(bootstrap=0), data_dir=tmp_path / "data", results_dir=tmp_path / "results", seed=0
    )
    found, given = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("modularity", "given")
    )

    assert "given" == given["grouping"]
    assert sorted(FAMILIES) == given["clusters"] == found["clusters"]
    assert found.keys() == given.keys()
    assert found["excess"] == given["excess"]
    assert (None, None, []) == (given["gamma"], given["stability"], given["sweep"])


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"a": "x", "b": "x", "c": "y"}, [[0, 1], [2]]),
        ({"a": "x", "c": "x"}, [[0, 2], [1]]),
        ({"a": "x", "b": "x", "c": None}, [[0, 1], [2]]),
        ({"a": "x", "b": "x", "c": "x"}, None),
        ({"a": "x", "b": "y", "c": "z"}, None),
        ({"a": None, "b": None, "c": None}, None),
        ({"a": "label b", "b": None, "c": "label b"}, [[0, 2], [1]]),
        ({}, None),
    ],
)
def test_families_group_what_they_name(told, expected):
    """A label without a family stands alone; families that group nothing are no grouping."""
    assert expected == clustering.families(["a", "b", "c"], told)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"copyright": 3}'])
def test_unreadable_classes_name_the_stage(tmp_path, text):
    """Without what the data set tells of its labels, the message says who writes it."""
    write_flat(tmp_path / "flat" / "0", families=FAMILIES)
    if text is not None:
        write_classes(tmp_path, {})
        (tmp_path / "shards" / "classes.json").write_text(text, encoding="utf-8")
    with pytest.raises(MissingInput, match=r"classes\.json is absent or names no labels"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)


def test_bytes_do_not_depend_on_hash_seed(tmp_path):
    """Two processes with different PYTHONHASHSEED write the same bytes."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    program = (
        "from pathlib import Path; from train import clustering; import sys;"
        "clustering.run(clustering.Params(bootstrap=5), data_dir=Path(sys.argv[1]),"
        "results_dir=Path(sys.argv[2]), seed=0)"
    )
    written = []
    for hash_seed in ("1", "2"):
        out = tmp_path / hash_seed
        write_classes(out, {f"label_{leaf}": f"work_{leaf % 3}" for leaf in range(12)})
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", program, str(out), str(tmp_path / "results")]
        subprocess.run(command, check=True, env=environment)
        folder = out / "clustering" / "0"
        written.append(
            [(folder / f"{name}.json").read_bytes() for name in ("modularity", "random", "given")]
        )

    assert written[0] == written[1]


def test_missing_predictions_name_the_stage(tmp_path):
    """Without validation predictions the message says which stage writes them."""
    with pytest.raises(MissingInput, match="flat"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)
    (tmp_path / "flat" / "0").mkdir(parents=True)
    (tmp_path / "flat" / "0" / "model.json").write_text('{"labels": ["a"]}', encoding="utf-8")
    with pytest.raises(MissingInput, match=r"validation\.parquet is absent"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)


def test_shuffled_confusion_finds_no_families():
    """Rows of a shuffled confusion lead to clusters unrelated to the families, on average."""
    parents = hierarchy.parents(FAMILIES)
    near = (parents[None, :] == parents[:, None]).astype(float)
    matrix = metrics.normalise_rows(0.15 * near + 0.6 * np.eye(12) + 0.01)
    indices = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(12)
        found = clustering.select(clustering.sweep(matrix[np.ix_(order, order)], Params()))
        indices.append(metrics.adjusted_rand(parents, hierarchy.parents(found.clusters)))

    assert np.mean(indices) < 0.1


def test_misspelt_parameter_names_the_nearest(tmp_path):
    """`gama_first` is refused, and gamma_first is offered."""
    path = tmp_path / "params.yaml"
    path.write_text("clustering: {gama_first: 1}\n", encoding="utf-8")

    with pytest.raises(BadParams, match="gamma_first"):
        section(path, "clustering", Params)
