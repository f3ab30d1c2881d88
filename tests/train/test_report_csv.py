"""The CSV of each figure: its numbers, and labels that look like spreadsheet formulas."""

import csv
import io
import re

import pytest

from tests.train.report_fixture import HOSTILE, LABELS, arguments, compare, write
from train import report
from train.page import figures, summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of one seed and their report."""
    made = write(tmp_path_factory.mktemp("csv"), seeds=(0,), each=12, catalog=False)
    report.run(**arguments(made))
    return made


def test_csv_of_the_confusion_equals_the_predictions(folder):
    """The share in the CSV equals the share in the predictions, for the same labels."""
    with (folder.report_dir / "confusion.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            (row["true_label"], row["predicted_label"]): row["value"]
            for row in csv.DictReader(file)
        }
    loaded, compared = compare(folder)
    shares = summary.shares(compared.flat.predictions, len(loaded.labels))

    assert shares[0, 4] == pytest.approx(float(rows[HOSTILE[0], LABELS[4]]))
    assert shares[0, 3] == pytest.approx(float(rows[HOSTILE[0], f"'{HOSTILE[3]}"]))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=cmd|' /C calc'!A1", "'=cmd|' /C calc'!A1"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'\t=1+1"),
        ("\r=1+1", "'\r=1+1"),
        ("persona = 4", "persona = 4"),
        ("", ""),
        (-0.25, "-0.25"),
        (None, ""),
    ],
)
def test_csv_disarms_text_that_a_spreadsheet_would_calculate(cell, expected):
    """A text cell that starts a formula gets an apostrophe; a number stays a number."""
    drawing = figures.Drawing("d", "", "<svg/>", ("cell", "next"), [(cell, 1)])
    rows = [*csv.reader(io.StringIO(report._csv(drawing), newline=""))]

    assert [["cell", "next"], [expected, "1"]] == rows


def test_no_csv_of_the_report_holds_a_formula(folder):
    """No cell of any CSV starts a formula; negative numbers are allowed."""
    cells = [
        cell
        for path in folder.report_dir.glob("*.csv")
        for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        for cell in row
    ]

    assert f"'{HOSTILE[3]}" in cells
    assert [] == [cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d)", cell)]
