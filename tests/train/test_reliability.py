"""Reliability diagrams, and the section on calibration."""

import pytest

from tests.train.report_fixture import compare, write
from train.page import reliability
from train.page.sections import calibration


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of two seeds, without a catalog."""
    return write(tmp_path_factory.mktemp("results"), each=8, catalog=False)


def test_calibration_of_every_run_stands_beside_its_diagram(folder):
    """The table has a row for each run; records without the newer figures have empty cells."""
    _, compared = compare(folder)
    drawing = reliability.draw([row.run for row in compared.summaries[:2]], name="reliability")
    content = calibration.section(compared, drawing).content
    pooled = sum(row[2] for row in drawing.rows if row[0] == "flat")

    assert ["flat", "uppsala", "uppsala_random"] == [row[0] for row in content.measures.rows]
    assert ("0.500 ± 0.000", "") == content.measures.rows[0][1:3]
    assert pooled == 2 * len(compared.flat.predictions[0].correct)
