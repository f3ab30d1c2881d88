"""Stage `clustering`: the groupings it writes, those it leaves out, and the reasons."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from personae import files, tables
from personae.errors import BadParams, MissingInput
from personae.settings import Settings
from tests.train.confusions import M6
from train import clustering
from train.clustering import Params
from train.documents import GroupingDocument
from train.errors import BadHierarchy
from train.grouping import document
from train.tree import hierarchy


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
    table = {"label": labels, "predicted": predicted, "probabilities": list(probabilities)}
    tables.write(folder / "validation.parquet", pa.table(table))
    names = [f"label_{leaf}" for leaf in range(len(parents))]
    (folder / "model.json").write_text(json.dumps({"labels": names}), encoding="utf-8")


def write_classes(data_dir, copyrights):
    """Writes classes.json with the copyright of each label."""
    (data_dir / "shards").mkdir(parents=True)
    told = {"labels": list(copyrights), "base": {}, "copyright": copyrights}
    (data_dir / "shards" / "classes.json").write_text(json.dumps(told), encoding="utf-8")


RULES = ("modularity", "laplacian", "average_linkage", "spectral", "agglomerative")
RANDOM = ("random", "random_1", "random_2")
SHAPED = ("bisection", "random_bisection", "random_average_linkage")
DEEP = ("dendrogram", "random_dendrogram")
TOLD = ("given", "random_given", "given_deep", "random_given_deep")
COVERS = ("hdcnn", "hdcnn_spectral", "hdcnn_disjoint", "random_hdcnn")
FAMILIES = [[0, 5, 7], [1, 2, 9], [3, 4, 11], [6, 8, 10]]


@pytest.mark.parametrize("confusion", ["counts", "soft"])
def test_stage_recovers_planted_families(tmp_path, confusion):
    """The stage recovers families planted in the validation predictions, and they are stable."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    write_classes(tmp_path / "data", {f"label_{leaf}": "one" for leaf in range(12)})
    folder = clustering.run(
        Params(confusion=confusion, bootstrap=20),
        data_dir=tmp_path / "data",
        results_dir=tmp_path / "results",
        seed=0,
    )
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
    # With counts the planted families form no larger groups.
    deep = () if confusion == "counts" else DEEP
    assert {*RULES, *RANDOM, *SHAPED, *COVERS, *deep, "left_out"} == {
        path.stem for path in folder.iterdir()
    }
    left_out = set(json.loads((folder / "left_out.json").read_text()))
    assert {*DEEP, *TOLD} == {*left_out, *deep}


def test_families_of_the_data_are_a_grouping(tmp_path):
    """Labels with the same copyright form a cluster of `given`, which has its own figures."""
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
    assert 4 == len(
        {
            str(json.loads((folder / f"{name}.json").read_text())["clusters"])
            for name in (*RANDOM, "random_given")
        }
    )
    assert (None, None, []) == (given["gamma"], given["stability"], given["sweep"])
    assert {*RULES, *RANDOM, *SHAPED, *COVERS, "given", "random_given", "left_out"} == {
        path.stem for path in folder.iterdir()
    }


@pytest.mark.parametrize("text", [None, "{", "[]", '{"copyright": 3}'])
def test_unreadable_classes_name_the_stage(tmp_path, text):
    """Without a readable classes.json the error names the stage that writes it."""
    write_flat(tmp_path / "flat" / "0", families=FAMILIES)
    if text is not None:
        write_classes(tmp_path, {})
        (tmp_path / "shards" / "classes.json").write_text(text, encoding="utf-8")
    what = "absent: stage 'shards' writes it" if text is None else "unreadable or has no labels"
    with pytest.raises(MissingInput, match=rf"classes\.json is {what}"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)


def test_bytes_do_not_depend_on_hash_seed(tmp_path):
    """Two processes with different PYTHONHASHSEED write the same bytes."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    program = (
        "from pathlib import Path; from train import clustering; import sys;"
        "from benchmarks.shared import cover; from train.grouping.inputs import read_predictions;"
        "folder = clustering.run(clustering.Params(bootstrap=5), data_dir=Path(sys.argv[1]),"
        "results_dir=Path(sys.argv[2]), seed=0);"
        "predictions = read_predictions(Path(sys.argv[2]) / 'flat/0/validation.parquet');"
        "weights = cover.soft_weights(predictions.probabilities, predictions.labels);"
        "sets = cover.greedy_cover(weights, experts=3, largest=4);"
        "(folder / 'cover').write_text(str(sets))"
    )
    written = []
    for hash_seed in ("1", "2"):
        out = tmp_path / hash_seed
        write_classes(out, {f"label_{leaf}": f"work_{leaf % 3}" for leaf in range(12)})
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", program, str(out), str(tmp_path / "results")]
        subprocess.run(command, check=True, env=environment)
        folder = out / "clustering" / "0"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})

    assert written[0] == written[1]
    assert len(written[0]) == 2 * 19 + 1 + 1
    assert written[0]["cover"].count(b"[") > 1


def write_counts(folder, counts):
    """Writes validation predictions with these counts, each with probability 1."""
    labels, predicted = (
        np.repeat(places, np.asarray(counts).ravel())
        for places in np.indices(np.shape(counts)).reshape(2, -1)
    )
    probabilities = list(np.eye(len(counts))[predicted])
    folder.mkdir(parents=True)
    table = {"label": labels, "predicted": predicted, "probabilities": probabilities}
    tables.write(folder / "validation.parquet", pa.table(table))
    names = [f"label_{leaf}" for leaf in range(len(counts))]
    (folder / "model.json").write_text(json.dumps({"labels": names}), encoding="utf-8")


def grouped(tmp_path, **fields):
    """Runs the stage without resamples and returns the written documents by name."""
    if not (tmp_path / "shards").exists():
        write_classes(tmp_path, {})
    params = Params(**{"bootstrap": 0} | fields)
    folder = clustering.run(params, data_dir=tmp_path, results_dir=tmp_path, seed=0)
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_every_rule_finds_the_planted_families(tmp_path):
    """All rules recover the planted families and store their parameters and stability."""
    write_flat(tmp_path / "flat" / "0", families=FAMILIES)
    found = grouped(tmp_path, bootstrap=5, groups_wanted=4)

    assert {name: sorted(FAMILIES) for name in RULES} == {
        name: found[name]["clusters"] for name in RULES
    }
    assert all(found[name]["stability"] > 0.8 for name in RULES)
    assert all(found[name]["tree"] == found[name]["clusters"] for name in RULES)
    assert [name for name in RULES if found[name]["p_min"] is not None] == ["average_linkage"]
    assert [name for name in RULES if found[name]["gamma"] is not None] == list(RULES[:2])
    assert len({str(found[name]["clusters"]) for name in (*RANDOM, "modularity")}) == 4
    assert all([3, 3, 3, 3] == [len(one) for one in found[name]["clusters"]] for name in RANDOM)
    assert [6, 6] == [len(one) for one in found["bisection"]["clusters"]]
    for name in ("bisection", "average_linkage"):
        control = found[f"random_{name}"]
        assert sorted(map(len, found[name]["clusters"])) == sorted(map(len, control["clusters"]))
        assert control["clusters"] != found[name]["clusters"]


def test_worked_example_through_the_stage(tmp_path):
    """M6 as counts gives the worked groups; a parameter of one rule changes only its own groups."""
    write_counts(tmp_path / "flat" / "0", np.round(100 * M6).astype(int))
    found = grouped(tmp_path)
    other = grouped(tmp_path, clusters=2, p_min=0.1, g_max=2)
    worked = [[0, 1, 2], [3, 4], [5]]

    assert (1.8, worked) == (found["modularity"]["gamma"], found["modularity"]["clusters"])
    assert np.isclose(0.923333, found["modularity"]["micp"], atol=1e-6)
    assert np.isclose(0.791, found["modularity"]["micp_random"])
    assert worked == found["agglomerative"]["clusters"]
    assert [[0, 1, 2], [3, 4, 5]] == found["average_linkage"]["clusters"]
    assert [[0, 1], [2], [3, 4], [5]] == other["average_linkage"]["clusters"]
    assert [[0, 1, 2], [3, 4, 5]] == found["bisection"]["clusters"]
    assert np.isclose(0.254420, found["bisection"]["modularity"], atol=1e-6)
    assert 2 == len(other["spectral"]["clusters"]) == len(other["agglomerative"]["clusters"])
    assert other["modularity"]["clusters"] == worked


def test_perfect_classifier_leaves_nothing_to_group(tmp_path):
    """If nothing is confused, every rule is left out, and the reason names the parameters."""
    write_counts(tmp_path / "flat" / "0", 10 * np.eye(5, dtype=int))
    left_out = grouped(tmp_path)["left_out"]
    reason = document.nothing_to_group(tmp_path / "clustering" / "0", "random")

    assert {*RULES, *RANDOM, *SHAPED, *COVERS, *DEEP, *TOLD} == set(left_out)
    assert re.search(r"5 labels have no grouping.*clustering\.confusion: soft", reason)


NEVER = np.zeros((6, 6), dtype=int)
NEVER[:3, :3], NEVER[3:5, 3:5] = 4, 5
DEGENERATE = {
    "never_confused": NEVER + np.diag([9, 9, 9, 9, 9, 20]),
    "never_predicted": NEVER
    + np.diag([9, 9, 9, 9, 9, 0])
    + np.outer([0] * 5 + [9], [0, 0, 0, 1, 1, 0]),
    "without_pictures": NEVER
    + np.diag([9, 9, 9, 9, 9, 0])
    + np.outer([0, 0, 0, 1, 1, 0], [0] * 5 + [4]),
    "unknown": NEVER + np.diag([9, 9, 9, 9, 9, 0]),
}


@pytest.mark.parametrize("counts", DEGENERATE.values(), ids=DEGENERATE)
def test_labels_of_which_little_is_known_have_their_cluster(tmp_path, counts):
    """Every given, predicted or random grouping holds each label once, with finite figures."""
    write_counts(tmp_path / "flat" / "0", counts)
    write_classes(tmp_path, {f"label_{leaf}": "ab"[leaf % 2] for leaf in range(6)})
    found = grouped(tmp_path, clusters=3, groups_wanted=3, bootstrap=3)
    left_out = found.pop("left_out")
    alone = not (counts[5, :5].any() or counts[:5, 5].any())

    assert {*RULES, *RANDOM, *SHAPED, *COVERS, *DEEP, *TOLD} == {
        *found,
        *left_out,
    }
    # K-means may return two clusters where three exist, and three are not always grouped again.
    assert set(left_out) <= {"spectral", "hdcnn_spectral", *DEEP, *TOLD[2:]}
    for name, one in found.items():
        assert list(range(6)) == sorted(leaf for group in one["clusters"] for leaf in group), name
        assert np.isfinite([one[key] for key in ("modularity", "micp", "excess", "accuracy")]).all()
        assert one["accuracy"] <= one["micp"] + 1e-12 <= 1 + 1e-9
    for name in ("modularity", "laplacian"):
        assert ([5] in found[name]["clusters"]) == alone, name
    assert [[0, 2, 4], [1, 3, 5]] == found["given"]["clusters"]


@pytest.mark.parametrize(
    "counts", [[[8, 2], [3, 7]], [[5]], np.full((6, 6), 3)], ids=["two", "one", "alike"]
)
def test_too_few_or_equal_labels_are_told_what_to_do(tmp_path, counts):
    """One, two, or six equally confused labels have no grouping; the reason is written."""
    write_counts(tmp_path / "flat" / "0", np.array(counts))
    left_out = grouped(tmp_path)["left_out"]

    assert f"The {len(counts)} labels have no grouping" in left_out["modularity"]


def test_what_cannot_be_found_is_left_out_with_a_reason(tmp_path):
    """Labels that are never confused leave too few clusters for K-means; reading it says why."""
    counts = 10 * np.eye(8, dtype=int)
    counts[0, 1] = counts[2, 3] = 3
    write_counts(tmp_path / "flat" / "0", counts)
    (tmp_path / "clustering" / "0").mkdir(parents=True)
    for kind in ("json", "dot"):
        (tmp_path / "clustering" / "0" / f"spectral.{kind}").write_text("{}", encoding="utf-8")
    found = grouped(tmp_path, clusters=3)

    assert [[0, 1], [2, 3], [4], [5], [6], [7]] == found["modularity"]["clusters"]
    assert found["agglomerative"]["clusters"] == found["modularity"]["clusters"]
    assert {"spectral", "hdcnn_spectral", *TOLD, *DEEP} == set(found["left_out"])
    assert not list((tmp_path / "clustering" / "0").glob("spectral.*"))
    with pytest.raises(BadHierarchy, match="4 of 8 labels are never confused"):
        document.read(tmp_path / "clustering" / "0", "spectral")
    with pytest.raises(BadHierarchy, match="'random_given' was left out"):
        document.read(tmp_path / "clustering" / "0", "random_given")
    with pytest.raises(MissingInput, match=r"spectrum\.json is absent"):
        document.read(tmp_path / "clustering" / "0", "spectrum")


def test_threshold_that_groups_nothing_is_left_out(tmp_path):
    """A p_min above all proximities groups no labels; the reason names the parameter."""
    write_counts(tmp_path / "flat" / "0", np.round(100 * M6).astype(int))

    left_out = grouped(tmp_path, p_min=0.9)["left_out"]

    assert "clustering.p_min" in left_out["average_linkage"]
    assert left_out["average_linkage"] == left_out["random_average_linkage"]


def test_labels_that_hang_together_have_no_bisection(tmp_path):
    """If no division in two gains at gamma 1, the bisection is left out with its reason."""
    counts = np.array([[10, 2, 2, 1], [1, 10, 0, 0], [0, 3, 10, 3], [2, 2, 3, 10]])
    write_counts(tmp_path / "flat" / "0", counts)
    left_out = grouped(tmp_path)["left_out"]

    assert "No division of 4 labels in two" in left_out["bisection"]
    assert left_out["bisection"] == left_out["random_bisection"]


def test_families_of_the_data_stand_beside_a_file(tmp_path):
    """With a file as `given`, the families of the data are the grouping `families`, with a control."""
    write_flat(tmp_path / "results" / "flat" / "0", families=FAMILIES)
    names = [f"label_{leaf}" for leaf in range(12)]
    write_classes(tmp_path / "data", {name: f"work_{name > 'label_2'}" for name in names})
    path = tmp_path / "tree.json"
    path.write_text(json.dumps([names[::2], names[1::2]]), encoding="utf-8")
    folder = clustering.run(
        Params(given=path, bootstrap=0),
        data_dir=tmp_path / "data",
        results_dir=tmp_path / "results",
        seed=0,
    )
    written = {
        name: json.loads((folder / f"{name}.json").read_text())["clusters"]
        for name in ("given", "families", "random_given", "random_families")
    }

    assert [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]] == written["given"]
    assert [[0, 1, 2, 10, 11], [3, 4, 5, 6, 7, 8, 9]] == written["families"]
    assert [5, 7] == sorted(map(len, written["random_families"]))


def test_tree_of_a_file_becomes_given(tmp_path):
    """A deep tree of label names is written with all levels, and random_given has its shape."""
    write_counts(tmp_path / "flat" / "0", np.round(100 * M6).astype(int))
    names = [f"label_{leaf}" for leaf in range(6)]
    path = tmp_path / "tree.json"
    path.write_text(
        json.dumps(
            {"left": [[names[0], names[2]], names[1]], "right": names[3:5], "own": names[5]}
        ),
        encoding="utf-8",
    )
    found = grouped(tmp_path, given=path)
    tree = document.tree(GroupingDocument.model_validate(found["given"]))

    assert [[[0, 2], 1], [3, 4], [5]] == found["given"]["tree"]
    assert [[0, 1, 2], [3, 4], [5]] == found["given"]["clusters"]
    assert 3 == hierarchy.heights(tree).max()
    assert ["root", "cluster-0", "cluster-0-0", "label-2"] == hierarchy.paths(tree)[2]
    assert [1, 2, 3] == sorted(len(one) for one in found["random_given"]["clusters"])
    assert [2] == [
        len(one)
        for one in found["random_given"]["tree"]
        if [] != [inner for inner in one if isinstance(inner, list)]
    ]
    assert "given" not in found["left_out"]
    assert [[[0, 1, 2], [3, 4]], [5]] == found["given_deep"]["tree"]
    assert found["given_deep"]["tree"] != found["random_given_deep"]["tree"]
    drawn = tmp_path / "clustering" / "0" / "given.dot"
    again = grouped(tmp_path, given=drawn)
    assert found["given"]["tree"] == again["given"]["tree"]


def test_documents_without_a_tree_have_two_levels():
    """Groupings written before deep trees existed are read with two levels."""
    tree = document.tree(GroupingDocument(clusters=[[0, 2], [1]], labels=["a", "b", "c"]))

    assert hierarchy.to_json(tree) == hierarchy.to_json(hierarchy.from_clusters([[0, 2], [1]], 3))


def test_missing_predictions_name_the_stage(tmp_path):
    """Without validation predictions the error names the stage that writes them."""
    with pytest.raises(MissingInput, match="flat"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)
    files.write_json(tmp_path / "flat" / "0" / "model.json", {"labels": ["a"]})
    with pytest.raises(MissingInput, match=r"validation\.parquet is absent"):
        clustering.run(Params(), data_dir=tmp_path, results_dir=tmp_path, seed=0)


def test_misspelt_parameter_names_the_nearest(tmp_path):
    """`gama_first` is refused, and the error suggests gamma_first."""
    path = tmp_path / "params.yaml"
    path.write_text("clustering: {gama_first: 1}\n", encoding="utf-8")

    with pytest.raises(BadParams, match="gamma_first"):
        Settings(path).section("clustering", Params)
