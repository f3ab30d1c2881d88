"""The report's answer: verdicts that follow the numbers, controls, and a single seed."""

import json
import shutil

import pytest

from personae.errors import BadDocument
from tests.train.report_fixture import (
    CONTROLLED,
    EQUAL,
    EXPERIMENTS,
    OTHERS,
    compare,
    say,
    write,
)
from train.evaluation import statistics
from train.methods import METHODS
from train.page import comparison, methods, verdict
from train.page.verdict import CONTROLS
from train.runs import EQUALS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of two seeds."""
    return write(tmp_path_factory.mktemp("comparison"), catalog=False)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Writes results of three seeds: three hierarchies, random groups, four matched controls."""
    root = tmp_path_factory.mktemp("experiments")
    return write(root, seeds=(0, 1, 2), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture
def small(tmp_path):
    """Writes results of one seed on few images."""
    return write(tmp_path, seeds=(0,), each=6, catalog=False)


def _text(method):
    return " ".join(method.sentences)


@pytest.mark.parametrize(
    ("gain", "random_gain", "equal_gain", "expected"),
    [
        (2.0, -1.0, -1.0, "Helps against all 5 controls"),
        (-2.0, 1.0, 1.0, "Hurts against all 5 controls"),
        (0.0, 0.0, 0.0, "No difference shown"),
        (2.0, 2.0, -1.0, "No difference shown against 1 of 5 controls; helps against 4"),
        (-1.0, -1.0, 2.0, "Hurts against 4 of 5 controls"),
        (1.5, 4.0, -1.5, "Mixed: helps against 4 and hurts against 1 of 5 controls"),
    ],
)
def test_verdict_follows_every_control(tmp_path, gain, random_gain, equal_gain, expected):
    """Better, equal and worse than the controls: the verdict says which and against how many."""
    folder = write(
        tmp_path,
        seeds=(0, 1, 2),
        each=15,
        gain=gain,
        random_gain=random_gain,
        equal_gain=equal_gain,
        catalog=False,
        runs=CONTROLLED,
        matches=EQUAL,
    )

    assert expected == say(folder).verdict


@pytest.mark.parametrize("gain", [2.5, -2.5])
@pytest.mark.parametrize("missing", ["random", *EQUALS])
def test_verdict_without_a_control_is_not_yet_comparable(tmp_path, gain, missing):
    """However large a difference is, a missing control of any kind leaves no verdict."""
    runs = {name: run for name, run in CONTROLLED.items() if name != f"uppsala_{missing}"}
    folder = write(
        tmp_path, seeds=(0, 1, 2), each=15, gain=gain, catalog=False, runs=runs, matches=EQUAL
    )
    answer = say(folder)
    cells = dict(zip(answer.controls.head, answer.controls.rows[0], strict=True))

    assert "Not yet comparable: 1 of 5 controls not trained" == answer.verdict
    assert "not yet comparable\nnot trained" == cells[CONTROLS[missing]]
    assert 1 == str(answer.controls.rows).count("not trained")


def test_unequal_cost_and_other_sizes_are_not_yet_comparable(experiments):
    """A control of another or unknown cost, and random groups of other sizes, are no control."""
    loaded, compared = compare(experiments)
    first = compared.verdicts[0]
    causes = {each.control: each.cause for each in first.controls}
    deep = next(row for row in compared.hierarchies if row.name == "uppsala_deep")
    of_deep = verdict.verdicts([deep], compared.control_groups)[0]

    assert 3 == len(loaded.seeds)
    assert {
        "train_flops": "",
        "macs": "",
        "params": "without a record of the cost",
        "ensemble": "of another cost",
        "random": "",
    } == causes
    assert "of other sizes" == of_deep.controls[-1].cause
    assert first.text.startswith("Not yet comparable: 1 of 5 controls without a record")


def test_comparisons_are_corrected_together(experiments):
    """Holm's correction is over every comparison of the answer, which states their number."""
    loaded, compared = compare(experiments)
    tested = [
        each
        for method in compared.verdicts
        for each in (method.flat, *method.controls)
        if each.difference is not None
    ]
    raw = [each.difference.p_value for each in tested]
    rows = comparison.table(loaded, compared).to_pylist()
    written = [row["value"] for row in rows if row["measure"] == "verdict_p_holm"]

    assert 7 == len(tested)  # uppsala against flat and five controls, hiernet against flat
    assert statistics.holm(raw) == [each.p_value for each in tested]
    assert sorted(written) == pytest.approx(sorted(each.p_value for each in tested))
    assert "Holm's correction for multiple comparisons over the 7 of this answer" in (
        say(experiments).certainty
    )


@pytest.mark.parametrize("gain", [0.8, -0.9])
def test_one_seed_gives_no_verdict(tmp_path, gain):
    """With one seed no difference, however large, is called better or worse."""
    answer = say(write(tmp_path, seeds=(0,), gain=gain, catalog=False))
    text = _text(answer.methods[0])

    assert (
        "Not yet comparable: 4 of 5 controls not trained, 1 of 5 controls with one seed"
    ) == answer.verdict
    assert "Difference to flat: " in text
    assert "points (one seed, no conclusion; 95\u00a0% interval" in text
    assert not [
        word for word in ("better", "worse", "beat", "No conclusive difference") if word in text
    ]


def test_interval_over_seeds_that_includes_zero_gives_no_verdict(experiments):
    """+15.3 points are inconclusive if only the interval over images excludes zero."""
    _, compared = compare(experiments)
    difference = compared.main.difference
    answer = say(experiments)

    assert difference.over_images.low > 0.1
    assert difference.over_seeds.low < 0 < difference.over_seeds.high
    first = answer.methods[0].sentences[0]
    assert compared.verdicts[0].flat.outcome == "no difference shown"
    assert first.startswith("No conclusive difference from flat: +15.3 points")
    assert first.endswith("; the interval over seeds includes zero.")


def test_verdict_without_a_measurable_difference(tmp_path):
    """If both intervals include zero, the verdict is no difference shown."""
    folder = write(tmp_path, seeds=(0, 1), each=6, catalog=False, runs=CONTROLLED, matches=EQUAL)
    for run in ("uppsala", "uppsala_random"):
        for seed in ("0", "1"):
            name = "predictions.parquet"
            source = folder.results_dir / "flat" / seed / name
            shutil.copy(source, folder.results_dir / run / seed / name)
    answer = say(folder)

    assert "No difference shown (provisional: 2 seeds)" == answer.verdict
    assert "both intervals include zero" in answer.methods[0].sentences[0]


def test_one_seed_is_called_one_seed(small, folder):
    """The report of one seed says so and gives the paired interval; that of two is provisional."""
    alone, two = say(small), say(folder)

    assert "This is one seed" in alone.certainty
    assert "no conclusion is drawn" in alone.certainty
    assert "95\u00a0% interval" in alone.sentence
    assert "one seed" not in two.certainty
    assert "With fewer than 3 seeds a verdict is provisional." in two.certainty
    assert "Not yet comparable: 4 of 5 controls not trained" == two.verdict


def test_every_difference_of_the_answer_names_its_seeds(experiments):
    """Each interval over images is followed by an interval over seeds and their number."""
    texts = [_text(method) for method in say(experiments).methods]

    for text in texts:
        assert text.count(" over images") == text.count("3 seeds")
        assert text.count(" over images") > 3


def test_document_without_operations_is_refused(small):
    """If fit.json lacks the operations of a network, the error names the field."""
    path = small.results_dir / "uppsala" / "0" / "fit.json"
    fit = json.loads(path.read_text())
    for network in fit["networks"]:
        del network["train_flops"]
    path.write_text(json.dumps(fit))

    with pytest.raises(BadDocument, match=r"fit\.json is damaged: 'networks\.0\.train_flops' is"):
        say(small)


def test_answer_has_sentences_for_each_method(experiments):
    """Only uppsala and hiernet have sentences; the deep tree and the controls have none."""
    answer = say(experiments)
    uppsala, hiernet = map(_text, answer.methods)

    assert ["uppsala", "hiernet"] == [method.run for method in answer.methods]
    assert "uppsala: " in answer.verdict
    assert "Random groups of the same sizes (2 draws) have" in uppsala
    assert "hiernet was not compared with runs of equal cost." in hiernet
    assert "with perfect routing, accuracy would be 62.5\u00a0%, so routing costs 0.0 points" in (
        uppsala
    )


def test_answer_gives_the_cost_of_routing_where_one_branch_is_executed(tmp_path):
    """Merged networks execute both branches, so no sentence gives them a routing cost."""
    folder = write(tmp_path, seeds=(0,), each=6, catalog=False, runs=OTHERS)
    texts = {method.run: _text(method) for method in say(folder).methods}

    assert (
        "The cluster with the highest probability is the right one for 62.5\u00a0% of the images; "
        "with the right cluster always known"
    ) in texts["merged"]
    assert not [text for text in texts.values() if "routing costs" in text]


@pytest.mark.parametrize(
    ("equal_gain", "outcome", "expected"),
    [
        (-1.5, "helps", "uppsala is better than flat with equal training operations (+"),
        (2.5, "hurts", "uppsala is worse than flat with equal training operations (−"),
    ],
)
def test_sentences_know_controls_of_equal_cost(tmp_path, equal_gain, outcome, expected):
    """A gain that a cost-matched flat control also has does not count for the hierarchy."""
    folder = write(
        tmp_path,
        seeds=(0, 1, 2),
        each=15,
        gain=0.8,
        equal_gain=equal_gain,
        catalog=False,
        runs=CONTROLLED,
        matches=EQUAL,
    )
    answer = say(folder)
    cells = dict(zip(answer.controls.head, answer.controls.rows[0], strict=True))

    assert cells[CONTROLS["macs"]].startswith(f"{outcome}\n")
    assert expected in _text(answer.methods[0])


def test_control_with_one_common_seed_gives_no_verdict_on_it(tmp_path):
    """A control with one common seed gives no conclusion, although flat has three."""
    folder = write(
        tmp_path,
        seeds=(0, 1, 2),
        each=15,
        gain=0.8,
        equal_gain=-1.5,
        catalog=False,
        runs=CONTROLLED,
        matches=EQUAL,
    )
    for seed in (1, 2):
        shutil.rmtree(folder.results_dir / "uppsala_macs" / str(seed))
    method = say(folder).methods[0]

    assert "Not yet comparable: 1 of 5 controls with one seed" == method.verdict
    assert "Difference to flat with equal MACs (+" in _text(method)
    assert "one seed, no conclusion" in method.sentences[-1]


def test_first_words_say_what_each_run_is(experiments):
    """Flat and each leading run have a sentence on their method, and a link to its paper."""
    terms = dict(say(experiments).terms)

    assert ["flat", "uppsala", "hiernet"] == list(terms)
    assert "baseline" in terms["flat"].sentence
    assert "https://doi.org/10.5220/0012321100003636" == terms["hiernet"].address
    assert not terms["uppsala"].address
    assert set(METHODS) - {"ensemble", "fusion"} <= set(methods.METHODS)
