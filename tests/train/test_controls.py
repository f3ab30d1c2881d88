"""A hierarchy against its controls: which they are, the differences, and the match of the cost."""

import json
import shutil

import numpy as np
import pytest

from tests.train.report_fixture import EXPERIMENTS, LABELS, compare, say, write
from train.evaluation import statistics
from train.page import controls
from train.tree import hierarchy


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Writes results of three seeds: three hierarchies, random groups, four matched controls."""
    root = tmp_path_factory.mktemp("experiments")
    return write(root, seeds=(0, 1, 2), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture
def small(tmp_path):
    """Writes results of one seed on few images."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


def test_controls_stand_with_their_hierarchy(experiments):
    """The controls are random groups of the same sizes and matched controls; HierNet has none."""
    _, compared = compare(experiments)
    control_group = compared.control_group(compared.main)
    names = [control.summary.run.name for control in control_group.controls]
    deep = next(group for group in compared.control_groups if group.run.name == "uppsala_deep")

    assert [
        "uppsala_random",
        "uppsala_random_1",
        "uppsala_train_flops",
        "uppsala_macs",
        "uppsala_params",
        "uppsala_ensemble",
    ] == names
    assert ["uppsala", "uppsala_deep"] == [group.run.name for group in compared.control_groups]
    assert all(control.is_same_shape for control in control_group.controls)
    assert [False, False] == [control.is_same_shape for control in deep.controls]
    assert ["uppsala", "hiernet"] == [row.name for row in compared.leading]


def test_random_groups_of_fewer_seeds_leave_one_mean(tmp_path):
    """Each seed counts once in the difference to random groups, over images as over seeds."""
    written = write(tmp_path, seeds=(0, 1), each=6, catalog=False, runs=EXPERIMENTS)
    shutil.rmtree(written.results_dir / "uppsala_random_1" / "1")
    _, compared = compare(written)
    pooled = compared.control_groups[0].against_random

    assert 2 == pooled.seeds
    assert pooled.over_images.mean == pytest.approx(pooled.over_seeds.mean)


def test_control_differences_are_those_of_the_predictions(experiments):
    """Differences equal those of means and flips; Holm corrects p over all controls."""
    _, compared = compare(experiments)
    control_group = compared.control_groups[0]
    raw = [flip.p_value for control in control_group.controls for flip in control.flips.values()]
    corrected = [p for control in control_group.controls for p in control.p_values.values()]

    for control in control_group.controls:
        rival = control.summary
        assert control_group.run.msr.mean - rival.msr.mean == pytest.approx(control.difference.mean)
        for index, flip in enumerate(control.flips.values()):
            gained = control_group.run.msr.values[index] - rival.msr.values[index]
            assert (flip.fixed - flip.broken) / (10 * len(LABELS)) == pytest.approx(gained)
    assert statistics.holm(raw) == corrected
    assert 18 == len(corrected)
    pooled = np.mean([control.difference.mean for control in control_group.random])
    assert pooled == pytest.approx(control_group.against_random.mean)


def test_full_is_compared_with_full_where_the_control_has_it(experiments):
    """Random groups are compared in mode full too; flat controls are compared as they predict."""
    _, compared = compare(experiments)
    control_group = compared.control_groups[0]
    random, macs = control_group.controls[0], control_group.controls[3]
    whole = compared.full(random.summary)

    assert control_group.full.msr.mean - whole.msr.mean == pytest.approx(
        random.difference_full.mean
    )
    assert control_group.full.msr.mean - macs.summary.msr.mean == pytest.approx(
        macs.difference_full.mean
    )


@pytest.mark.parametrize(
    ("wanted", "reached", "ratio", "is_equal"),
    [
        (100, 105, 1.05, True),
        (100, 105.1, 1.051, False),
        (200, 190, 0.95, True),
        (4, 3, 0.75, False),
    ],
)
def test_equal_is_within_five_per_cent(wanted, reached, ratio, is_equal):
    """A cost up to 5 % away is equal, and a cost further away is not."""
    match = controls.CostMatch(wanted, reached)

    assert ratio == pytest.approx(match.ratio)
    assert is_equal is match.is_equal


def test_old_record_without_match_is_kept(experiments):
    """A control without a recorded cost match keeps its row, and the answer states it."""
    _, compared = compare(experiments)
    matches = {
        control.summary.run.name: control.match for control in compared.control_groups[0].controls
    }

    assert matches["uppsala_params"] is None
    assert 1.1 == pytest.approx(matches["uppsala_ensemble"].ratio)
    text = " ".join(say(experiments).methods[0].sentences)
    assert "whether its cost is equal was not recorded" in text
    assert "its cost is 1.10 times that of uppsala, so not equal" in text


def test_ablation_has_its_own_controls_alone(small):
    """A run with other settings is not compared with random groups of the usual settings."""
    for run, freeze in (("uppsala", "none"), ("uppsala_random", "conv")):
        path = small.results_dir / run / "0" / "model.json"
        model = json.loads(path.read_text())
        model["params"]["uppsala"] = {"freeze": freeze}
        path.write_text(json.dumps(model))
    _, compared = compare(small)

    assert () == compared.control_groups
    assert "not compared with random groups" in " ".join(say(small).methods[0].sentences)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("loop", {"recipe": "fast", "epochs": 2}),
        ("loop", {"recipe": "fast", "min_updates": 9}),
        ("data", {"share": 0.5}),
        ("backbone", {"width": 2.0}),
        ("augment", {"flip": "none"}),
    ],
)
def test_random_groups_with_another_training_are_no_control(small, section, values):
    """Random groups that were trained longer, on fewer images or with another network do not count."""
    usual = {"loop": {"epochs": 1}, "backbone": {"width": 1.0}, "augment": {"flip": "lr"}}
    for run in ("uppsala", "uppsala_random"):
        path = small.results_dir / run / "0" / "model.json"
        model = json.loads(path.read_text())
        model["params"] |= usual
        if run == "uppsala":
            model["params"][section] = values
        path.write_text(json.dumps(model))
    _, compared = compare(small)

    assert () == compared.control_groups


def test_random_groups_count_whatever_computes_them(small):
    """Jobs, threads and device of a training make no other control."""
    path = small.results_dir / "uppsala_random" / "0" / "model.json"
    model = json.loads(path.read_text())
    model["params"]["loop"] |= {"jobs": 2, "threads": 1, "device": "cpu"}
    path.write_text(json.dumps(model))
    _, compared = compare(small)

    assert ["uppsala"] == [group.run.name for group in compared.control_groups]


def test_sizes_are_compared_with_every_seed(tmp_path):
    """Groups that have the run's sizes with the first seed alone are groups of other sizes."""
    folder = write(tmp_path, seeds=(0, 1), each=6, catalog=False)
    path = folder.results_dir / "uppsala_random" / "1" / "model.json"
    model = json.loads(path.read_text())
    odd = hierarchy.from_clusters(((0,), (1,), (2,), (3,), tuple(range(4, 12))), len(LABELS))
    path.write_text(json.dumps(model | {"hierarchy": hierarchy.to_json(odd)}))
    _, compared = compare(folder)

    assert [False] == [each.is_same_shape for each in compared.control_groups[0].random]
    assert "Random groups of other sizes" in " ".join(say(folder).methods[0].sentences)
