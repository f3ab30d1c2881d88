"""What the first words of the report say: verdicts that follow the numbers, controls, one seed."""

import json
import shutil

import pytest

from tests.train.report_fixture import (
    EXPERIMENTS,
    OTHERS,
    asked,
    say,
    write,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two seeds."""
    return write(tmp_path_factory.mktemp("comparison"), catalog=False)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Results of three seeds: three hierarchies, random groups, four controls of equal cost."""
    root = tmp_path_factory.mktemp("experiments")
    return write(root, seeds=(0, 1, 2), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture
def small(tmp_path):
    """Results of one seed on few images."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


@pytest.mark.parametrize(
    ("gain", "random_gain", "expected"),
    [
        (0.8, 0.0, "Yes"),
        (-0.9, 0.0, "No"),
        (1.2, 2.6, "Yes, but random groups do as well"),
    ],
)
def test_verdict_follows_the_numbers(tmp_path, gain, random_gain, expected):
    """The first words say what the intervals say, the control's among them."""
    folder = write(tmp_path, seeds=(0,), gain=gain, random_gain=random_gain, catalog=False)

    assert expected == say(folder).verdict


def test_verdict_without_a_measurable_difference(small):
    """Where the interval holds zero, nothing is claimed."""
    shutil.rmtree(small.results_dir / "uppsala")
    shutil.copytree(small.results_dir / "flat", small.results_dir / "uppsala")
    said = say(small)

    assert "Not measurably" == said.verdict
    assert "which includes zero" in said.methods[0].text


def test_one_seed_is_called_one_seed(small, folder):
    """A report of one seed says so and gives the paired interval; one of two says it is few."""
    alone, two = say(small), say(folder)

    assert "This is one seed" in alone.certainty
    assert "95\u00a0% interval" in alone.sentence
    assert "one seed" not in two.certainty
    assert "Fewer than 3" in two.certainty


def test_unknown_operations_are_left_out(small):
    """A record without operations of training gives seconds alone."""
    path = small.results_dir / "uppsala" / "0" / "fit.json"
    fit = json.loads(path.read_text())
    for network in fit["networks"]:
        del network["train_flops"]
    path.write_text(json.dumps(fit))

    assert "its training takes 4.70 times the seconds" in say(small).methods[0].text


def test_answer_has_a_paragraph_for_each_method(experiments):
    """Uppsala and HierNet have one each; the deep tree and the controls have none."""
    said = say(experiments)

    assert ["uppsala", "hiernet"] == [one.run for one in said.methods]
    assert "uppsala: " in said.verdict
    assert "Random groups of the same sizes, 2 draws," in said.methods[0].text
    assert "It was not compared with runs of equal cost." in said.methods[1].text
    assert "a root that never errs would give 62.5\u00a0%, so routing costs 0.0 points" in (
        said.methods[0].text
    )


def test_answer_speaks_of_routing_where_one_branch_is_executed(tmp_path):
    """Merged networks weigh what both branches say: their categories route nothing."""
    folder = write(tmp_path, seeds=(0,), each=6, catalog=False, runs=OTHERS)
    said = {one.run: one.text for one in say(folder).methods}

    assert (
        "It finds the right cluster of 62.5\u00a0% of the images; were that always known"
        in (said["merged"])
    )
    assert not [text for text in said.values() if "routing costs" in text]


@pytest.mark.parametrize(
    ("equal_gain", "verdict", "said"),
    [
        (-1.5, "Yes", "It beats flat with equal MACs (+"),
        (
            2.5,
            "Yes, but a control of equal cost does as well",
            "It does worse than flat with equal",
        ),
    ],
)
def test_verdict_knows_controls_of_equal_cost(tmp_path, equal_gain, verdict, said):
    """A gain that a flat network of the same cost has too is no gain of the hierarchy."""
    runs = {
        "uppsala": asked("uppsala", "modularity"),
        "uppsala_macs": asked("flat", None, "uppsala", "macs"),
    }
    folder = write(tmp_path, seeds=(0,), gain=0.8, equal_gain=equal_gain, catalog=False, runs=runs)
    finding = say(folder).methods[0]

    assert verdict == finding.verdict
    assert said in finding.text
