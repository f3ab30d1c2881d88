"""Warnings about weak results: their limits, their counts, and where they are shown."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from tests.train.documents_fixture import FIT, NETWORK
from tests.train.report_fixture import arguments, write
from train import guards, report
from train.documents import FitDocument
from train.grouping import document

NAMES = (
    "Too few seeds",
    "Too few weight updates",
    "Few images drawn",
    "Too few validation images",
    "too short",
    "Training cut",
)


def _record(
    *,
    run="flat",
    seed=0,
    networks=("root",),
    epochs=10,
    images=2000,
    share=1.0,
    stop="epochs",
    **changed,
):
    trained = [
        NETWORK
        | {
            "network": name,
            "epochs": epochs,
            "images_seen": epochs * images,
            "pictures": round(images / share),
            "stopped_by": stop,
        }
        for name in networks
    ]
    fit = FitDocument(**FIT | {"networks": trained})
    return guards.TrainingRecord(
        **{"run": run, "seed": seed, "fit": fit, "batch_size": 100, "validation": 20.0} | changed
    )


def _curve(*accuracies, network="root"):
    return [{"network": network, "val_accuracy": str(value)} for value in accuracies]


def test_sound_training_has_no_warning():
    """200 updates, 20 validation images per label and a level curve are enough."""
    curves = _curve(0.2, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.709)
    records = [_record(seed=seed, curves=curves) for seed in range(3)]

    assert [] == guards.of_results(records)
    assert [] == guards.of_training(records[0])


def test_updates_are_counted_with_the_last_batch():
    """Ten epochs of 1,900 images in batches of 100 are 190 updates; of 1,901, 200."""
    (text,) = guards.of_training(_record(images=1900, networks=("root", "cluster-0")))

    assert "2 of 2 networks had fewer than 200 (fewest: flat seed 0, cluster-0, 190)" in text
    assert [] == guards.of_training(_record(images=1901))
    assert [] == guards.of_training(_record(images=1, batch_size=None))


def test_every_kind_is_counted_once_with_its_worst_case():
    """However many runs are weak, each kind gives one sentence."""
    rising = _curve(0.1, 0.2, 0.3, 0.5)
    records = [
        _record(
            run=run,
            seed=seed,
            images=100 * (seed + 1),
            share=0.25 * (seed + 1),
            validation=3.25,
            curves=rising,
            stop="seconds",
        )
        for run in ("flat", "tree")
        for seed in (0, 1)
    ]
    texts = guards.of_results(records)

    assert [1, 1, 1, 1, 1, 1] == [sum(name in text for text in texts) for name in NAMES]
    assert 6 == len(texts)
    assert "2 of 2 runs have fewer than 3 (fewest: 2)" in texts[0]
    assert "4 of 4 networks had fewer than 200 (fewest: flat seed 0, root, 10)" in texts[1]
    assert "in 2 of 4 networks an epoch has fewer than 50 % of the images" in texts[2]
    assert "(fewest: flat seed 0, root, 100 of 400)" in texts[2]
    assert "3.2 per label, fewer than 20" in texts[3]
    assert "in 4 of 4 networks" in texts[4]
    assert "+20.0 points" in texts[4]
    assert (
        "4 of 4 networks ended after loop.max_seconds (fewest epochs: flat seed 0, root, 10)"
        in (texts[5])
    )


@pytest.mark.parametrize(
    ("accuracies", "climbs"),
    [
        ((0.5,), False),  # one epoch has no past
        ((0.5, 0.51), True),
        ((0.5, 0.5, 0.5, 0.505), False),
        ((0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.605), False),  # noise
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), True),
        ((0.8, 0.7, 0.6, 0.5), False),
    ],
)
def test_curve_climbs_above_its_first_three_quarters(accuracies, climbs):
    """The last accuracy is compared with the best before the last quarter of the epochs."""
    texts = guards.of_training(_record(curves=_curve(*accuracies)))

    assert climbs is bool(texts)


def test_report_shows_and_logs_each_warning_once(tmp_path, caplog):
    """The page and the log have the same sentences, once each; a sound report has none."""
    folder = write(tmp_path, seeds=(0, 1), each=6, catalog=False)
    for path in folder.results_dir.glob("*/*/model.json"):
        model = json.loads(path.read_text())
        model["params"]["data"] = {"batch_size": 1024}
        path.write_text(json.dumps(model))
    with caplog.at_level(logging.WARNING):
        report.run(**arguments(folder))
    page = (folder.report_dir / "index.html").read_text(encoding="utf-8")
    logged = [entry.message for entry in caplog.records]

    assert 3 == len(logged) == page.count("<strong>Warning.</strong>")
    for text in logged:
        assert 1 == page.count(text.removeprefix("report: "))
    assert "18 of 18 networks had fewer than 200" in page
    assert "Too few validation images" in page


def test_run_without_a_grouping_is_left_out_with_its_reason(tmp_path):
    """A grouping that does not exist ends in a report of the other runs, which gives the reason."""
    folder = write(tmp_path, seeds=(0, 1), each=6, catalog=False)
    for seed in folder.seeds:
        clusters = folder.data_dir / "clustering" / str(seed)
        (clusters / "random.json").unlink()
        (clusters / "left_out.json").write_text(json.dumps({"random": "Too few confusions."}))
    report.run(**arguments(folder))
    page = (folder.report_dir / "index.html").read_text(encoding="utf-8")

    assert (
        "Nothing to group for uppsala_random seed 0, uppsala_random seed 1: left out, because they "
        "would be the flat network. Too few confusions."
    ) in page
    assert 'id="controls"' not in page
    assert "4 of 5 controls not trained" not in page
    assert "Not yet comparable: not trained" in page


def test_report_of_labels_without_any_grouping_says_so(tmp_path):
    """With two labels, or without mistakes, the report is that of the flat network."""
    folder = write(tmp_path, seeds=(0,), each=6, catalog=False)
    shutil.rmtree(folder.data_dir / "clustering")
    reasons = dict.fromkeys(("modularity", "random"), "No label is confused.")
    document.write(folder.data_dir / "clustering" / "0", {}, reasons)
    report.run(**arguments(folder))
    page = (folder.report_dir / "index.html").read_text(encoding="utf-8")

    assert "<strong>Nothing to group.</strong>" in page
    assert "Nothing to group for uppsala seed 0, uppsala_random seed 0" in page
    assert not (folder.report_dir / "differences.svg").exists()


def test_copies_of_the_flat_run_are_recognised():
    """A run that trained nothing has the very training of the flat run of its seed."""
    flat, own = _record(), _record(run="tree", epochs=20)
    copy = replace(flat, run="uppsala")

    assert [copy] == guards.copied([flat, own, copy])
    assert [] == guards.copied([own])
