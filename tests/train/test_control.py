"""Controls: as many epochs or as wide a network as the cost of another run, within 5 %."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personae import files
from personae.errors import BadParams, MissingInput
from tests.train.documents_fixture import COUNTED, FIT, NETWORK
from train import backbone, control, fit, options
from train.__main__ import main
from train.classifier import FitReport
from train.data import augment, images
from train.engine import loop
from train.methods import ensemble, flat
from train.runs import Compare, Control, Run
from train.tree import hierarchy

FLAT = NETWORK | {
    "train_flops": 6.0 * 1000 * 4 * 40_818_944,
    "images_seen": 4000,
    "epochs": 4,
}
TREE = [
    NETWORK | {"train_flops": FLAT["train_flops"] / 2},
    NETWORK | {"network": "cluster-0", "train_flops": FLAT["train_flops"] / 4},
]


def write_fit(path, networks, **cost):
    """Writes fit.json as an older version did, without `needs_flat`."""
    document = FIT | {"networks": networks, "cost": COUNTED | cost}
    del document["needs_flat"]
    files.write_json(path, document)


@pytest.fixture
def finished(tmp_path, model_of):
    """Writes results of a flat ResNet-20 over 100 labels and of a tree that costs 75 % more."""
    for name, networks, cost in (
        ("flat", [FLAT], {"macs_expected": 40_818_944.0, "params": 278_324}),
        ("tree", TREE, {"macs_expected": 60_000_000.0, "params": 1_000_000}),
    ):
        folder = tmp_path / name / "0"
        labels = [f"label {number}" for number in range(100)]
        model = model_of("flat", hierarchy.flat(100), side=32, labels=labels)
        model.write(folder / "model.json")
        write_fit(folder / "fit.json", networks, **cost)
    return tmp_path


def settings_of(method="flat", **own):
    module = {"flat": flat, "ensemble": ensemble}[method]
    return fit.RunSettings(
        method=method,
        grouping=None,
        own=module.Params(**own),
        data=images.Params(),
        augment=augment.Params(),
        backbone=backbone.Params(name="resnet20"),
        loop=loop.Params(epochs=4),
    )


def settled(finished, equal, settings=None):
    wanted = Control(like="tree", equal=equal)
    return control.settle(settings or settings_of(), wanted, seed=0, results_dir=finished)


def test_longer_by_what_the_tree_and_its_flat_network_cost(finished):
    """The tree with its flat network costs 75 % more: seven epochs instead of four."""
    chosen, match = settled(finished, "train_flops")

    assert 7 == chosen.loop.epochs
    assert pytest.approx(1.0) == match.ratio
    assert settings_of().backbone == chosen.backbone


def test_minimum_of_updates_does_not_lengthen_a_control_of_equal_cost(finished):
    """The epochs of the control are those of the cost, whatever `min_updates` says."""
    settings = settings_of()
    many = replace(settings, loop=settings.loop.model_copy(update={"min_updates": 10_000}))
    longer, _ = settled(finished, "train_flops", many)
    wider, _ = settled(finished, "macs", many)

    assert (7, None) == (longer.loop.epochs, longer.loop.min_updates)
    assert 10_000 == wider.loop.min_updates


def test_limit_of_one_network_does_not_shorten_a_control_of_equal_cost(finished):
    """The control's one network may take the operations and time of all networks of the run."""
    settings = settings_of()
    limits = {"max_train_flops": FLAT["train_flops"], "max_seconds": 1e-9}
    limited = settings.loop.model_copy(update=limits)
    chosen, _ = settled(finished, "train_flops", replace(settings, loop=limited))

    assert (7, None) == (chosen.loop.epochs, chosen.loop.max_train_flops)
    assert chosen.loop.max_seconds is None


def test_control_on_a_share_of_the_images_trains_more_epochs(finished):
    """An epoch of a run on half of the images has half of the operations: 14 epochs, not seven."""
    settings = settings_of()
    half = replace(settings, data=images.Params(share=0.5))
    chosen, match = settled(finished, "train_flops", half)

    assert (14, pytest.approx(1.0)) == (chosen.loop.epochs, match.ratio)


@pytest.mark.parametrize(("of_flat", "epochs"), [(False, 5), (True, 14)])
def test_control_counts_the_validation_images_that_it_trains_on(finished, of_flat, epochs):
    """With 400 validation images, 1,400 images an epoch take five epochs; 500 instead, 14."""
    folder = finished / "flat" / "0"
    pq.write_table(pa.table({"post_id": range(400 + 100 * of_flat)}), folder / "validation.parquet")
    path = folder / "fit.json"
    facts = json.loads(path.read_text())
    facts["networks"][0]["pictures"] = 1000
    path.write_text(json.dumps(facts), encoding="utf-8")
    path = folder / "model.json"
    facts = json.loads(path.read_text())
    facts["params"]["data"] = {"train_on_val": of_flat}
    path.write_text(json.dumps(facts), encoding="utf-8")
    whole = replace(settings_of(), data=images.Params(train_on_val=not of_flat))
    chosen, match = settled(finished, "train_flops", whole)

    assert (epochs, pytest.approx(1.0)) == (chosen.loop.epochs, match.ratio)


def test_flat_network_that_is_not_needed_is_not_counted(finished):
    """Trained from scratch on a given tree, the run costs 75 % of four epochs: three epochs."""
    path = finished / "tree" / "0" / "fit.json"
    facts = json.loads(path.read_text()) | {"needs_flat": False}
    path.write_text(json.dumps(facts), encoding="utf-8")
    chosen, match = settled(finished, "train_flops")

    assert (3, pytest.approx(1.0)) == (chosen.loop.epochs, match.ratio)


@pytest.mark.parametrize(
    ("grouping", "from_flat", "expected"),
    [
        (None, True, False),
        ("modularity", True, True),
        ("modularity", False, True),
        ("random", False, True),
        ("given", True, True),
        ("given", False, False),
        ("random_given", False, False),
        ("families", False, False),
        ("random_families", False, False),
        ("given_deep", False, True),
    ],
)
def test_flat_network_is_needed_as_a_start_or_for_clusters(grouping, from_flat, expected):
    """Only a run from scratch on a given grouping, or its control, needs no flat network."""
    assert expected is FitReport((), from_flat=from_flat).needs_flat(grouping)


@pytest.mark.parametrize(("equal", "wanted"), [("macs", 60e6), ("params", 1e6)])
def test_wider_until_the_cost_is_reached(finished, equal, wanted):
    """The width reaches 60 million MACs, or a million parameters, within 5 %."""
    chosen, match = settled(finished, equal)
    network = backbone.build(chosen.backbone, outputs=100, side=32)
    macs = sum(row.macs for row in backbone.layer_table(network))

    assert match.reached == (macs if equal == "macs" else backbone.count(network))
    assert abs(match.reached / wanted - 1) < 0.05
    assert chosen.backbone.width > 1
    assert {"like", "equal", "wanted", "reached", "ratio"} == set(match.model_dump())
    assert match.ratio == match.reached / match.wanted


def test_ensemble_shares_the_cost_among_its_members(finished):
    """Four members with a million parameters in total have a quarter of a million each."""
    chosen, match = settled(finished, "ensemble", settings_of("ensemble", members=4))
    network = backbone.build(chosen.backbone, outputs=100, side=32)

    assert abs(match.reached / 1e6 - 1) < 0.05
    assert match.reached == 4 * backbone.count(network)


def test_out_of_reach_is_said(finished):
    """A cost that no width reaches is refused with the nearest; an absent run names its stage."""
    path = finished / "tree" / "0" / "fit.json"
    write_fit(path, TREE, macs_expected=1e15, params=1)
    for equal in ("macs", "params"):
        with pytest.raises(BadParams, match="comes no nearer than"):
            settled(finished, equal)
    path.unlink()
    with pytest.raises(MissingInput, match="stage 'fit'"):
        settled(finished, "macs")


RUNS = {"a": Run(method="uppsala", grouping="modularity"), "b": Run(method="hiernet")}


@pytest.mark.parametrize(
    ("equal", "option"),
    [
        ("train_flops", "--epochs"),
        ("train_flops", "--min-updates"),
        ("macs", "--width"),
        ("params", "--members"),
        ("ensemble", "--width"),
        ("ensemble", "--coarse-after"),
    ],
)
def test_what_the_equal_cost_settles_is_no_option(capsys, equal, option):
    """An option that the command would replace, or of another method, is refused."""
    with pytest.raises(SystemExit) as caught:
        main(["control", "ensemble", equal, option, "7"])

    assert 2 == caught.value.code
    assert f"unrecognized arguments: {option} 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("equal", "option"),
    [("macs", "--epochs"), ("train_flops", "--width"), ("ensemble", "--members")],
)
def test_what_the_equal_cost_leaves_open_is_an_option(equal, option):
    """The epochs of a wider control, and the width of a longer one, can be given."""
    parsed = options.parse(["control", "tree", equal, option, "7"])

    assert 7 == getattr(parsed, option.removeprefix("--"))


def test_controls_are_named_by_what_they_equal():
    """Runs keep the order of the list; the controls of a run follow it, and name the run they match."""
    lists = Compare(
        fit=("a", "b"), like=("b",), equal=("ensemble", "macs"), evaluate=("b", "flat", "a")
    )

    shown = lists.compared(RUNS)

    assert ["b", "b_ensemble", "b_macs", "a"] == list(shown)
    assert ["hiernet", "ensemble", "flat", "uppsala"] == [run.method for run in shown.values()]
    assert Control(like="b", equal="macs") == shown["b_macs"]


def test_controls_are_shown_wherever_they_are_trained():
    """`like` alone is enough; a run that is not evaluated itself has its controls in the report."""
    lists = Compare(fit=("a",), like=("a",), equal=("macs",))

    assert ["a_macs"] == list(lists.compared(RUNS))


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"fit": ["c"]}, "compare.fit names 'c', which is none of section 'runs': a, b"),
        ({"fit": ["a"], "like": ["b"]}, "compare.like names 'b', which is none of compare.fit: a"),
        ({"fit": ["a"], "evaluate": ["flat", "b"]}, "compare.evaluate names 'b', which is none of"),
        (
            {"fit": ["a"], "like": ["a"], "evaluate": ["a_macs"]},
            "compare.evaluate names 'a_macs', which is none of flat and compare.fit: a, flat",
        ),
    ],
)
def test_what_is_compared_must_be_trained(lists, said):
    """A list that names an untrained run is refused, and the error lists the trained ones."""
    with pytest.raises(BadParams, match=said):
        Compare(**lists).compared(RUNS)
