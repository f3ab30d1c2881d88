"""The report: the files it writes, its numbers, and its refusals."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import jinja2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.browse import server
from curation.browse.selection import Selection
from tests.train.report_data_fixture import SIDE, image_bytes
from tests.train.report_fixture import (
    EXPERIMENTS,
    HOSTILE,
    LABELS,
    RUNS,
    arguments,
    compare,
    read,
    write,
)
from train import report
from train.page import catalog, comparison, figures, funnel, mosaic, page, thumbnails
from train.page.blocks import FigureGroup, PageSection, ReportFigure, table
from train.page.formatting import spread
from train.page.sections import clustering
from train.page.sections.confusion import DifferenceContent
from train.page.sections.results import costs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of two seeds and their report."""
    made = write(tmp_path_factory.mktemp("report"))
    report.run(**arguments(made))
    return made


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Writes results without a catalog and reports the flat run over an older report."""
    made = write(tmp_path_factory.mktemp("alone"), seeds=(0,), each=6, catalog=False)
    made.report_dir.mkdir()
    (made.report_dir / "tree-old.svg").write_text("<svg/>")
    report.run(**arguments(made, runs={}))
    return made


def _page(folder):
    return (folder.report_dir / "index.html").read_text(encoding="utf-8")


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def _parsed(folder):
    parser = _Elements()
    parser.feed(_page(folder))
    return parser


def test_writes_page_table_and_every_figure_with_its_rows(folder):
    """The folder holds the page, the table, and the CSV of each SVG."""
    names = {path.name for path in folder.report_dir.iterdir()}
    table = pq.read_schema(folder.report_dir / "comparison.parquet")
    drawn = {name.removesuffix(".svg") for name in names if name.endswith(".svg")}

    assert "index.html" in names
    assert comparison.SCHEMA.names == table.names
    assert {
        "confusion",
        "confusion-clusters",
        "cost",
        "curves-flat",
        "curves-uppsala",
        "difference-uppsala",
        "differences",
        "funnel",
        "reliability",
        "tree-uppsala",
    } == drawn
    assert {f"{name}.csv" for name in drawn} == {name for name in names if name.endswith(".csv")}


def test_page_has_every_section_in_order(folder):
    """The sections have a fixed order."""
    anchors = [
        attrs["href"] for tag, attrs in _parsed(folder).elements if tag == "a" and "href" in attrs
    ]
    sections = [anchor[1:] for anchor in anchors[1:] if anchor.startswith("#")]

    assert [
        "answer",
        "results",
        "controls",
        "published",
        "funnel",
        "mosaic",
        "confusion",
        "worst",
        "difference",
        "tree",
        "clustering",
        "curves",
        "calibration",
        "slices",
        "white",
        "made",
    ] == sections


def test_page_asks_for_nothing(folder):
    """No element refers to anything outside the file, and the policy allows its own script alone."""
    elements = _parsed(folder).elements
    policy = next(attrs["content"] for _, attrs in elements if "http-equiv" in attrs)
    sources = [
        value
        for tag, attrs in elements
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "srcset", "data") and tag != "a"
    ]

    script = re.search("<script>(.*?)</script>", _page(folder), flags=re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src"
    assert f"{allowed} 'sha256-{digest}'" == policy
    assert [source for source in sources if not source.startswith(("data:", "#"))] == []


def test_confusions_lead_to_their_images(folder):
    """Confusions and reasons of refusals link to the browse page, whose parameters they have."""
    addresses = [
        urlsplit(attrs["href"])
        for tag, attrs in _parsed(folder).elements
        if tag == "a" and attrs["href"].startswith("http")
    ]
    links = [Selection.model_validate(dict(parse_qsl(url.query))) for url in addresses]
    cells = [link for link in links if not link.reason]
    reasons = [(link.stage, link.reason) for link in links if link.reason]

    assert {("127.0.0.1", server.PORT)} == {(url.hostname, url.port) for url in addresses}
    assert {"test"} == {cell.split for cell in cells}
    assert {"flat"} < {cell.run for cell in cells}
    assert {cell.true for cell in cells} <= set(LABELS)
    assert all(cell.predicted in LABELS for cell in cells)
    # Both matrices, the diagonal included; the table of the worst adds wrong predictions.
    assert len(cells) > 2 * len(LABELS)
    assert reasons
    assert all(stage and reason for stage, reason in reasons)


def test_hostile_names_stay_text(folder):
    """A label named like a script, an attribute or an image creates no element or attribute."""
    parsed = _parsed(folder)
    handlers = [name for _, attrs in parsed.elements for name in attrs if name.startswith("on")]

    assert 1 == [tag for tag, _ in parsed.elements].count("script")  # that of the page itself
    assert [] == handlers
    assert set(HOSTILE) <= {text.strip() for text in parsed.text}


def test_hostile_text_of_every_block_stays_text():
    """Labels in tables, captions, summaries, figures and attributes create no element."""
    drawing = figures.Drawing("d", HOSTILE[1], '<svg width="9pt"></svg>', (), ())
    cells = [[*HOSTILE], [*HOSTILE]]
    content = DifferenceContent(
        figures=FigureGroup(
            (ReportFigure(drawing, HOSTILE[0]),), (ReportFigure(drawing, HOSTILE[2]),)
        ),
        labels=table(HOSTILE, cells, caption=HOSTILE[0], words=(0, 1)),
        are_labels_folded=True,
        layout=HOSTILE[1],
    )
    parser = _Elements()
    parser.feed(page.render(PageSection("difference", "", content)))
    names = {name for _, attrs in parser.elements for name in attrs}

    assert not {tag for tag, _ in parser.elements} & {"script", "img"}
    assert not [name for name in names if name.startswith("on")]
    assert 2 <= [text.strip() for text in parser.text].count(HOSTILE[0])
    assert HOSTILE[1] in [attrs.get("aria-label") for _, attrs in parser.elements]


def test_template_that_lacks_a_value_is_an_error():
    """A missing value of a template stops the report."""
    with pytest.raises(jinja2.UndefinedError, match="parameters"):
        page.render(PageSection("made", "", {"facts": {}}))


def test_table_with_a_short_row_is_refused():
    """A row with a missing cell is an error."""
    with pytest.raises(ValueError, match="1 cells and its table 2 columns"):
        table(("a", "b"), [("1",)], caption="")


def test_identifiers_are_unique(folder):
    """No two elements share an identifier, so figures in one page do not collide."""
    names = [attrs["id"] for _, attrs in _parsed(folder).elements if "id" in attrs]

    assert len(set(names)) == len(names)


def test_same_inputs_give_the_same_bytes(folder):
    """A second report of the same results equals the first, byte for byte."""
    before = {path.name: path.read_bytes() for path in folder.report_dir.iterdir()}
    report.run(**arguments(folder))

    assert before == {path.name: path.read_bytes() for path in folder.report_dir.iterdir()}


def test_figures_of_a_run_that_is_gone_go_too(alone):
    """A report removes the figures of runs that it does not contain."""
    assert not (alone.report_dir / "tree-old.svg").exists()


def test_flat_alone_is_reported(alone):
    """Without a hierarchical run the page says so and still shows the flat network."""
    assert "Only the flat CNN was trained" in _page(alone)
    assert (alone.report_dir / "confusion.svg").exists()
    assert not (alone.report_dir / "differences.svg").exists()


def test_missing_catalog_is_stated(alone):
    """Without a catalog the section says so, and the rest of the page is complete."""
    assert "The catalog was not found" in _page(alone)
    assert "catalog.duckdb is absent" in _page(alone)


def test_funnel_counts_what_each_stage_refused(folder):
    """A stage's refused posts are the kept posts of the stage before minus its own kept posts."""
    with catalog.opened(folder.data_dir / "catalog" / "catalog.duckdb") as source:
        steps = funnel.read(source).steps

    assert ("decide", 8000, 2000) == (steps[0].stage, steps[0].kept, steps[0].refused)
    assert ("comic", 900) == steps[0].reasons[0]
    assert ("persona", 5760) == (steps[4].stage, steps[4].refused)


def test_routing_is_shown_where_it_was_measured(folder, alone):
    """Routers have a table with the accuracy of perfect routing; the flat run has none."""
    assert "accuracy with perfect routing" in _page(folder)
    assert "62.5 ± 0.0" in _page(folder)
    assert "accuracy with perfect routing" not in _page(alone)


def test_f1_and_consistency_stand_in_the_tables(folder):
    """The page has these columns, with the values of the comparison and their deviation."""
    _, compared = compare(folder)
    row, text = compared.full(compared.main), _parsed(folder).text
    values = (row.consistency, row.node_f1, row.path_f1)

    assert {f"{name},\u00a0%" for name in ("path consistency", "node F1", "path F1")} <= set(text)
    assert {spread(value) for value in values} <= set(text)


def test_time_of_an_image_stands_with_the_costs(folder):
    """The last two columns have median, 95th percentile and calls; they are empty if untimed."""
    _, compared = compare(folder)
    made = costs(compared)
    times = {row[0]: row[-2:] for row in made.rows}

    assert [True, True] == ["ms (p95; calls)" in heading for heading in made.head[-2:]]
    assert {
        "flat": ("2.5\u00a7 (6; 400)", "0.25\u00a7 (0.6; 400)"),
        "uppsala": ("4.38\u00a7 (10.5; 400)", "0.5\u00a7 (1.2; 400)"),
        "uppsala (full)": ("", ""),
        "uppsala_random": ("", ""),
        "uppsala_random (full)": ("", ""),
    } == times


def test_mosaic_shows_the_images_of_the_shard(folder):
    """A tile holds a copy of the post's image, and the networks that predicted it correctly."""
    loaded, compared = compare(folder)
    flat, main = compared.flat.predictions[0], compared.main.predictions[0]
    rows = mosaic.choose(flat, leaves=len(LABELS), each=3, seed=0)
    images = thumbnails.opened(folder.data_dir / "shards", side=SIDE)
    lines = mosaic.read(rows, flat, main, images)
    tile = lines[2][0]
    copy = np.asarray(Image.open(io.BytesIO(tile.webp)), dtype=int)
    original = np.asarray(Image.open(io.BytesIO(image_bytes(2, tile.post_id))), dtype=int)
    row = int(np.flatnonzero(flat.trained.post_id == tile.post_id)[0])
    expected = {
        (True, True): "both",
        (False, True): "hierarchy",
        (True, False): "flat",
        (False, False): "neither",
    }[bool(flat.correct[row]), bool(main.correct[row])]

    assert [3] * len(LABELS) == [len(line) for line in lines]
    assert (2, expected) == (tile.label, tile.outcome)
    assert np.abs(copy - original).mean() < 8
    assert loaded.labels[tile.label] == HOSTILE[2]


def test_long_tables_are_folded(folder):
    """McNemar's test per seed and the training of each network are folded."""
    summaries = re.findall(r"<summary>([^<]*)</summary>", _page(folder))

    assert "Images fixed and broken against flat, by seed" in summaries
    assert "Every network (9)" in summaries


def test_page_without_controls_has_no_such_section(alone):
    """Without trained controls the page has no section on controls."""
    assert 'id="controls"' not in _page(alone)
    assert 'id="published"' in _page(alone)


def test_clusters_of_a_deep_tree_are_listed_in_brackets(tmp_path):
    """A cluster of clusters shows its levels, and figures order labels as the tree does."""
    made = write(tmp_path, seeds=(0,), each=6, catalog=False, runs=EXPERIMENTS)
    loaded = read(made)
    body = page.render(clustering.section(loaded))
    own = loaded.groupings["given", 0]

    assert f"({LABELS[4]}, a&#34;onload=x), {LABELS[5]}" in body
    assert (0, 3, 4, 1, 5) == own.ordered[0]


def test_runs_are_named_by_the_caller(folder):
    """The first run is flat; the others keep the given order and names."""
    assert ("flat", *RUNS) == tuple(run.name for run in read(folder).runs)
