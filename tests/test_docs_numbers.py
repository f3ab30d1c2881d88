"""
Tests that each measured number in README and docs comes from a result, a parameter or a source.

The generated parts are made from result files and compared by tests/test_readme.py; the worked
values of the method pages are computed in tests/test_docs_values.py. Here are all other numbers with
a unit: each has a function that computes it. Whoever writes a new number must add its origin.
"""

import hashlib
import importlib
import json
import math
import re
import statistics
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
_UNIT = (
    r"(?:%|points?\b|times\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|days?\b|[kMG]i?B(?:/s)?\b"
    r"|images a second)"
)
_NUMBER = re.compile(rf"(?<![\w.`])\d[\d,]*(?:\.\d+)? ?{_UNIT}")
BY_EYE = {("docs/methods/data.md", "97 %")}
"""Figures of a comparison that a person looked at, without a result file. Add none."""


def numbers(text):
    """Returns the numbers with a unit outside generated parts, code, addresses and formulas."""
    for pattern in (
        r"<!-- (\w+)(?::\w+)? -->.*?<!-- /\1 -->",
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"(?<=\])\([^)]*\)",
    ):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return _NUMBER.findall(text)


def _spread_of_trainings():
    from generators.records import accuracies, recorded

    return f"{statistics.stdev(accuracies(recorded('methods'), 'flat')):.1f} points"


@cache
def _null_comparisons():
    from tests.train.test_paired_difference import _null_differences

    return list(_null_differences(seeds=3, simulations=2000))


def _errors(attribute):
    called = np.mean([attribute(difference) for difference in _null_comparisons()])
    return f"{100 * called:.0f} %"


def _hours_of_report25():
    from train.page.published import DATA

    images = int(re.search(r"([\d,]+) images", DATA)[1].replace(",", ""))
    return f"{images / 3600:.0f} hours"


def _paper(name, preset="D25"):
    from train.page.published import ACCURACY

    return next(row.msr for row in ACCURACY if (row.architecture, row.data) == (name, preset))


def _points_of_the_report():
    return f"{_paper('hierarchical') - _paper('flat'):.1f} points"


def _points_of_hdcnn():
    from train.page.published import HDCNN

    errors = {row.model: row.ten_views for row in HDCNN}
    return f"{errors['NIN, the flat network'] - errors['HD-CNN']:.2f} points"


def _parameters_of_hdcnn():
    from train.page.published import HDCNN_DATA

    return re.search(r"has ([\d.]+ times) the parameters of NIN", HDCNN_DATA)[1]


@cache
def _times_of_a_tree(*, is_shared):
    from train import backbone
    from train.methods import METHODS
    from train.tree import hierarchy

    flat, uppsala = METHODS["flat"], METHODS["uppsala"]

    def build(outputs):
        return backbone.build(backbone.Params(), outputs=outputs, side=128)

    mean = np.zeros(3, dtype=np.float32)
    tree = hierarchy.from_clusters([list(range(c * 5, c * 5 + 5)) for c in range(6)], 30)
    own = uppsala.Params() if is_shared else uppsala.Params(freeze="none")
    cost = uppsala.Classifier(own, hierarchy=tree, build=build, mean=mean).cost()
    whole = flat.Classifier(
        flat.Params(), hierarchy=hierarchy.flat(25), build=build, mean=mean
    ).cost()
    times = (cost.macs["root"] + cost.macs["cluster-0"]) / whole.macs_max
    return f"{times:.4f} times"


def _value(module, name):
    return getattr(importlib.import_module(module), name)


def _skew():
    from scraper import image

    return f"{100 * (image._LARGEST_SKEW - 1):.0f} %"


def _frame():
    from PIL import Image

    from personae import squares

    side = 1000
    frame = len(squares.border(Image.new("RGB", (side, side))))
    width = (side - math.isqrt(side * side - frame)) / 2
    return f"{100 * width / side:.0f} %"


def _cropped_copies():
    path = ROOT / "benchmarks" / "results" / "duplicate_quality.json"
    edits = json.loads(path.read_text())["details"]["edits"]
    names = ("cropped by 10 %", "border of 10 %, white")
    assert {0.0} == {edits[name]["one_image"] for name in names}
    assert {1.0} == {edits[name]["linked"] for name in names}
    return "10 %"


EVALUATION, HIERNET = "docs/methods/evaluation.md", "docs/methods/hiernet.md"
ORIGINS = [
    (
        "docs/demo-board.md",
        lambda: f"{_value('scraper.demo.server.strikes', '_QUERY_SECONDS'):.0f} seconds",
    ),
    ("docs/demo-board.md", lambda: "1 kB/s"),  # 100 bytes every 0.1 seconds: test_strikes
    ("docs/formats.md", _skew),
    ("docs/formats.md", _frame),
    ("docs/formats.md", lambda: "95 %"),  # the level of every interval
    ("docs/howto/board.md", _hours_of_report25),
    (
        "docs/howto/storage.md",
        lambda: f"{_value('personae.storage.multipart', 'PART_BYTES') >> 20} MiB",
    ),
    (
        "docs/howto/storage.md",
        lambda: f"{_value('personae.storage.build', 'CACHE_BYTES') >> 30} GiB",
    ),
    ("docs/methods/data.md", _frame),
    ("docs/methods/data.md", _cropped_copies),
    (EVALUATION, _spread_of_trainings),
    (EVALUATION, lambda: _errors(lambda each: each.over_images.excludes_zero)),
    (EVALUATION, lambda: _errors(lambda each: each.is_conclusive)),
    (EVALUATION, lambda: f"{100 * _value('train.page.verdict', 'LEVEL'):.0f} %"),
    (EVALUATION, lambda: f"{100 * _value('train.runs', 'TOLERANCE'):.0f} %"),
    (EVALUATION, lambda: f"{100 * _value('train.guards', 'CLIMB'):.0f} point"),
    (EVALUATION, lambda: f"{100 * _value('benchmarks.recoverable', 'BAR'):.0f} points"),
    ("docs/methods/hdcnn.md", _points_of_hdcnn),
    ("docs/methods/hdcnn.md", _parameters_of_hdcnn),
    (HIERNET, lambda: f"{100 * _value('train.methods.hiernet.splits', '_SHARED'):.0f} %"),
    (HIERNET, lambda: f"{100 * _value('train.methods.hiernet.splits', '_ADDED'):.0f} %"),
    ("docs/methods/uppsala.md", lambda: _times_of_a_tree(is_shared=False)),
    ("docs/methods/uppsala.md", lambda: _times_of_a_tree(is_shared=True)),
    ("docs/methods/uppsala.md", _points_of_the_report),
]
"""A page and the function that computes a number of it, in the order of the page."""


@pytest.fixture(autouse=True)
def _generators(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")


@pytest.mark.parametrize("page", PAGES)
def test_every_number_has_an_origin_that_gives_it(page):
    """The numbers of a page are those that their origins compute, no more and no fewer."""
    expected = [origin() for of, origin in ORIGINS if of == page]
    written = [
        number
        for number in numbers(PAGES[page].read_text(encoding="utf-8"))
        if (page, number) not in BY_EYE
    ]

    assert expected == written


def test_new_number_is_noticed():
    """Prose, tables and lists are searched; generated parts, code and formulas are not."""
    text = (
        "Flat has 93.3 %, in 1,234 s.\n| a | 2.5 points |\n- 16 hours\n"
        "<!-- answer -->\n| 1.0 % |\n<!-- /answer -->\n```sh\nsleep 5 s\n```\n`3 %` [x](7 %)\n$$4 %$$"
    )

    assert ["93.3 %", "1,234 s", "2.5 points", "16 hours"] == numbers(text)


def test_records_are_those_that_were_recorded():
    """A record that was edited by hand, added or removed has no sum: `train record` writes both."""
    folder = ROOT / "experiments"
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    records = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*.json")
    }

    assert [name for name in records if records[name] != sums.get(name)] == []
    assert set(records) == set(sums)


@pytest.fixture(scope="module")
def parts():
    """Returns the generated parts of the documents, without the queries, which take a build."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import make

        patch.setattr(make.queries, "queries", lambda: None)
        yield make.parts()


@pytest.mark.parametrize("preset", ["demo", "methods", "illustrations", "cifar100_small"])
def test_edited_record_makes_the_documents_outdated(preset, parts, monkeypatch):
    """One figure changed in one record changes a table that tests/test_readme.py compares."""
    import make
    from generators import records

    kept = records.json.loads

    def edited(text):
        record = kept(text)
        if isinstance(record, dict) and (record.get("preset"), record.get("run")) == (
            preset,
            "flat",
        ):
            record["metrics"]["msr"] += 0.01
        return record

    monkeypatch.setattr(records.json, "loads", edited)
    changed = [name for name, part in make.parts().items() if part != parts[name]]

    assert f"results:{preset}" in changed
