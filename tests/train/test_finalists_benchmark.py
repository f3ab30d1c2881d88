"""The test of the protocol: differences by seed and image, Holm over all of them, winners."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import finalists, narrow
from tests.train.report_fixture import asked, write

RUNS = {
    "flat_s30": asked("flat", gain=0.0),
    "tree_s30": asked("flat", gain=3.0),
    "tree_s30_random": asked("flat", gain=0.0),
    "online": asked("flat", gain=0.0),
    "recover": asked("recover", "given", gain=0.1),
    "recover_random": asked("recover", "random", gain=0.1),
    "recover_one": asked("recover", gain=0.1),
    "recover_train_flops": asked("flat", gain=0.0),
    "recover_macs": asked("flat", gain=0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes five seeds of every finalist and control."""
    root = tmp_path_factory.mktemp("finalists")
    labels = tuple("abcdefghijkl")
    return write(root, seeds=finalists.SEEDS, each=8, catalog=False, runs=RUNS, labels=labels)


def test_only_a_clear_lead_over_every_control_wins(folder):
    """The run with a large gain wins, the others do not; p is scipy's paired t test."""
    result = finalists.run(folder.results_dir)
    rows = result.details["comparisons"]
    accuracy = result.details["accuracy"]
    first = rows[0]

    assert (1, ["tree_s30"]) == (result.value, result.details["winners"])
    assert ("tree_s30", "flat") == (first["finalist"], first["control"])
    assert first["p"] == pytest.approx(
        stats.ttest_rel(accuracy["tree_s30"], accuracy["flat"]).pvalue
    )
    assert first["difference"] == pytest.approx(np.mean(first["by_seed"]))
    assert first["low"] < first["difference"] < first["high"]
    assert all(row["p"] <= row["p_holm"] for row in rows)
    assert 9 == len(rows)


def test_missing_cells_are_named(folder, tmp_path):
    """Without a cell there is no answer, and the message names what is missing."""
    with pytest.raises(SystemExit, match=r"flat 11, flat 12.*Run dvc repro"):
        finalists.run(tmp_path)


def test_an_unfinished_finalist_counts_in_the_correction(folder, tmp_path):
    """Its comparisons are missing, and the others are corrected as if they were there."""
    for path in folder.results_dir.iterdir():
        if path.name != "recover_one":
            (tmp_path / path.name).symlink_to(path)
    result = finalists.run(tmp_path)
    rows = result.details["comparisons"]
    least = min(rows, key=lambda row: row["p"])

    assert {"tree_s30", "online"} == {row["finalist"] for row in rows}
    assert least["p_holm"] == pytest.approx(min(1.0, 9 * least["p"]))
    assert {"recover": [f"recover_one {seed}" for seed in finalists.SEEDS]} == result.details[
        "not_evaluated"
    ]


def test_narrow_networks_have_their_own_correction(folder):
    """The third hypothesis has three comparisons, and is corrected over these alone."""
    rows = narrow.run(folder.results_dir).details["comparisons"]
    least = min(rows, key=lambda row: row["p"])

    assert [("recover", control) for control in narrow.CONTROLS["recover"]] == [
        (row["finalist"], row["control"]) for row in rows
    ]
    assert least["p_holm"] == pytest.approx(min(1.0, 3 * least["p"]))
