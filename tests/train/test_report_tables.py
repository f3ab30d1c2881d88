"""The papers' tables above our rows: worked values from the papers' own tables."""

import html
import json
import re

import pytest

from tests.train.documents_fixture import FIT, NETWORK
from tests.train.report_fixture import EXPERIMENTS, FINDER, OTHERS, compare, write
from train.documents import FitDocument, HierarchyDocument, ModelDocument
from train.page import page, published, results
from train.page.papers import uppsala
from train.page.sections import controls
from train.page.sections import published as published_section
from train.page.sections import results as section_of_results
from train.tree import hierarchy

NAMES = ("root", *(f"cluster-{number}" for number in range(6)))
SUBNETWORKS = (720, 600, 500, 400, 320, 180)
SIX = [[2 * number, 2 * number + 1] for number in range(6)]
DEEP = [[[0, 1], [2, 3], 4], [5, 6]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of one seed with every kind of run."""
    root = tmp_path_factory.mktemp("tables")
    return write(root, seeds=(0,), each=10, catalog=False, runs=EXPERIMENTS)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Writes results of one seed with the runs of the other three papers."""
    root = tmp_path_factory.mktemp("others")
    return write(root, seeds=(0,), each=20, catalog=False, runs=OTHERS)


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Writes results of three seeds with the runs of the other three papers."""
    root = tmp_path_factory.mktemp("repeated")
    return write(root, seeds=(0, 1, 2), each=30, catalog=False, runs=OTHERS)


def _text(folder):
    return _plain(page.render(published_section.section(*compare(folder))))


def _plain(markup):
    """Returns the text of the page with a bar per tag, without space between tags."""
    return html.unescape(re.sub(r"<[^>]+>", "|", re.sub(r">\s+<", "><", markup)))


def _verdicts(folder):
    rows = re.findall(r"\|(\d+)\|\|([^|]+)\|\|([^|]*)\|\|", _text(folder))
    verdicts = {text: verdict for _, text, verdict in rows}
    return [verdicts[claim.text] for claim in published.MERGED_CLAIMS]


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _trained(tree, networks, *, total=0.0):
    leaves = len(hierarchy.leaves(tree))
    document = hierarchy.to_json(hierarchy.from_nested(tree, leaves))
    whole = [
        {**{key: NETWORK[key] for key in NETWORK if key != "waits_for"}, **network}
        for network in networks
    ]
    fit = FitDocument(**{**FIT, "networks": whole, "total_seconds": total})
    model = ModelDocument.model_construct(hierarchy=HierarchyDocument(**document))
    return results.TrainedRun("run", 0, *[None] * 7, None, fit, model, ())


def _run(tree, networks, *, name="uppsala", total=0.0):
    return results.ComparedRun(name, "uppsala", "given", {0: _trained(tree, networks, total=total)})


def _flat(seconds):
    return _run([0, 1], [{"network": "root", "seconds": seconds}], name="flat", total=seconds)


def _networks(names, seconds, above):
    return [
        {"network": name, "seconds": took, "waits_for": waits}
        for name, took, waits in zip(names, seconds, above, strict=True)
    ]


def test_accuracy_inside_the_cluster_is_derived():
    """Accuracy inside the cluster equals Table 1 (66.0 / 77.0 = 85.7), None without MICP."""
    values = [row.implied and round(row.implied, 1) for row in published.ACCURACY]

    assert [83.9, 85.7, None, 66.4, 59.8] == values


def test_speed_ups_with_and_without_the_flat_network():
    """The report counts 1.495 / 2.143; with the flat network the ordinary tree is slower."""
    rows = published.SECONDS
    values = [tuple(round(value, 3) for value in row.speed_ups) for row in rows]

    assert [(1.495, 2.143), (1.039, 2.661), (1.129, 1.884)] == values
    assert (16520, 14520) == rows[0].whole
    assert (0.599, 0.682) == tuple(round(value, 3) for value in rows[0].whole_speed_ups)


def test_times_of_an_ordinary_tree():
    """D25 of the Uppsala report's Table 2: total 6,620, parallel 4,620, mean 453.33."""
    networks = _networks(NAMES, (3900, *SUBNETWORKS), (None, *["root"] * 6))
    row = uppsala.times(_run(SIX, networks), _flat(9900.0))

    assert (6620, 4620, 3900, 720) == (row.total, row.parallel, row.root, row.subnetworks_max)
    assert 453.33 == pytest.approx(row.subnetworks_mean, abs=0.005)
    assert (1.495, 2.143) == tuple(round(value, 3) for value in row.speed_ups)
    assert (16520, 14520) == row.whole


def test_times_of_a_deep_tree_follow_the_longest_chain():
    """Root 10, cluster-0 5 with 4 and 1 below, cluster-1 7: the longest chain takes 19."""
    names = ("root", "cluster-0", "cluster-1", "cluster-0-0", "cluster-0-1")
    above = (None, "root", "root", "cluster-0", "cluster-0")
    row = uppsala.times(_run(DEEP, _networks(names, (10, 5, 7, 4, 1), above)), _flat(20.0))

    assert "here, deep (uppsala)" == row.kind
    assert (27, 19) == (row.total, row.parallel)
    assert (4.25, 7) == (row.subnetworks_mean, row.subnetworks_max)


def test_network_that_only_found_clusters_stands_apart():
    """A clustering network of 6 below cluster-0 is counted apart from the tree's networks."""
    names = ("root", "cluster-0", "cluster-1", FINDER, "cluster-0-0", "cluster-0-1")
    above = (None, "root", "root", "cluster-0", FINDER, FINDER)
    row = uppsala.times(_run(DEEP, _networks(names, (10, 5, 7, 6, 4, 1), above)), _flat(20.0))

    assert (27, 19, 4.25) == (row.total, row.parallel, row.subnetworks_mean)
    assert (6, 6) == (row.finding, row.finding_parallel)
    assert (53, 45) == row.whole


def test_old_record_of_networks_is_a_root_and_its_subnetworks():
    """Without `waits_for` every subnetwork waits for the root."""
    networks = [
        {"network": name, "seconds": took}
        for name, took in zip(NAMES, (3900, *SUBNETWORKS), strict=True)
    ]

    assert 4620 == uppsala.times(_run(SIX, networks), _flat(9900.0)).parallel


def test_one_network_for_a_whole_tree_has_no_subnetworks():
    """HierNet trains one network: total and parallel are its seconds, other cells are empty."""
    row = uppsala.times(_run(SIX, _networks(["root"], [40.0], [None])), _flat(20.0))

    assert (None, None, None) == (row.root, row.subnetworks_mean, row.subnetworks_max)
    assert (40, 40) == (row.total, row.parallel)


def test_accuracy_of_a_run_is_in_the_form_of_the_report(folder):
    """MICP uses the run's own clusters, for flat the reference; rows name the architecture."""
    _, compared = compare(folder)
    rows = [uppsala.accuracy(row) for row in (compared.flat, *compared.hierarchies)]

    assert [
        "flat",
        "hierarchical (uppsala)",
        "deep hierarchical (uppsala_deep)",
        "hierarchical (hiernet)",
    ] == [row.architecture for row in rows]
    assert 100 * compared.flat.micp.mean == pytest.approx(rows[0].micp)
    assert 100 * compared.hierarchies[1].micp_own.mean == pytest.approx(rows[2].micp)
    assert 100 * rows[1].msr / rows[1].micp == pytest.approx(rows[1].implied)


def test_page_prints_published_rows_above_ours(folder):
    """The page has both tables, the doubts, and HierNet's row of the same depth."""
    text = _text(folder)

    assert "1.495 / 2.143" in text
    assert "5.79 subnetworks" in text
    assert "published, n = 5" in text
    assert "+3.57" in text
    assert "Flat: 12 epochs. HierNet: 12 epochs." in text
    assert "4,992 images" in text


def test_hiernet_is_absent_where_it_did_not_run(tmp_path):
    """A report without HierNet shows nothing of its paper."""
    body = _text(write(tmp_path, seeds=(0,), each=6, catalog=False))

    assert "HierNet" not in body


def test_routing_names_no_route_of_methods_that_combine_outputs(others):
    """The default mode of these methods is no route, so that the column is that of the default."""
    _, compared = compare(others)
    routing = section_of_results.routing(compared)
    (column,) = [index for index, head in enumerate(routing.head) if "by default" in head]

    assert {"hdcnn", "merged", "dhnn"} <= {row[0] for row in routing.rows}
    assert not any("route" in head for head in routing.head)
    for row in compared.hierarchies:
        cells = next(cells for cells in routing.rows if cells[0] == row.name)
        assert f"{100 * row.run.first.metrics.route_msr:.1f}" == cells[column]


def test_every_other_paper_has_its_table(others):
    """HD-CNN's errors, the merged networks' claims and DHNN's paths are above our rows."""
    _, compared = compare(others)
    text = _text(others)
    flat, ours = compared.flat.msr.mean, compared.hierarchies[0].msr.mean

    assert "|HD-CNN||32.62||34.36||+2.65||+2.93||459||0.28|" in text
    assert "|HD-CNN without shared layers||||34.50||||+2.79||1,356||2.43|" in text
    row = f"|here (hdcnn)||||{100 * (1 - ours):.2f}||||{100 * (ours - flat):+.2f} ["
    assert row in text
    assert re.search(re.escape(row) + r"[+−][\d.]+ to \+[\d.]+\]\|one seed, no conclusion\|", text)
    assert "|here (hdcnn (full))|" in text
    assert "|here, flat||||" in text
    # The fixture trains equally many networks for a separate run, so the ratio is 1.
    assert re.search(r"\|merged\|\|2\|\|[\d.]+\|\|37.5\|\|[\d.]+\|\|1.00\|", text)
    assert re.search(r"\|merged_\|apart\|\|apart\|", text)


def test_figures_of_hdcnn_are_those_of_its_table():
    """The gains of HD-CNN's table add up; five rows have memory, the last two from a review."""
    rows = published.HDCNN
    ten = [row.ten_views for row in rows if row.ten_views]
    memory = {row.model: (row.memory, row.seconds) for row in rows if row.memory}

    assert [0.14, 1.01, 1.94, 2.06, 2.65] == [round(ten[0] - error, 2) for error in ten[1:]]
    assert [37.29, 34.36, 34.50, 34.50, 34.57, 34.73] == [
        row.one_view for row in rows if row.one_view
    ]
    assert {
        "NIN, the flat network": (188, 0.04),
        "HD-CNN": (459, 0.28),
        "HD-CNN without shared layers": (1356, 2.43),
        "HD-CNN, conditional (beta 6)": (447, 0.10),
        "HD-CNN, conditional and compressed": (286, 0.10),
    } == memory
    assert "were not checked against it" in published.HDCNN_DATA


def test_scores_of_dhnn_are_those_of_its_table():
    """The column sums, best gains over flat and odd cell of DHNN's F1 table are as published."""
    columns = list(zip(*published.DHNN.values(), strict=True))
    sums = [
        [sum(getattr(cell, name) for cell in column) for name in published.DhnnF1.__slots__]
        for column in columns
    ]
    gains = [
        max(cell.path for cell in column if cell.path < cell.node) - column[0].path
        for column in columns
    ]
    odd = [
        (model, column)
        for model, cells in published.DHNN.items()
        for column, cell in enumerate(cells)
        if cell.path > cell.node
    ]

    assert 9 == len(published.DHNN)
    assert [
        [636.25, 1.28, 666.14, 1.42],
        [642.63, 1.03, 671.95, 1.23],
        [639.66, 0.91, 668.62, 0.92],
        [638.15, 1.29, 660.30, 1.17],
    ] == [pytest.approx(column) for column in sums]
    assert [3.31, 0.99, 0.83, 0.54] == pytest.approx(gains)
    assert [("S2S-Alt-Conv", 3)] == odd
    assert [7.3, 17.4, 16.4, 15.2, 6.7, 15.5, 14.6, 14.4] == pytest.approx(
        [row.node - row.path for row in published.DHNN_REAL]
    )
    assert 502.8 == pytest.approx(sum(row.path for row in published.DHNN_REAL))


def test_scores_of_dhnn_stand_above_ours(others):
    """F1 is above F1 and accuracy above accuracy; the odd cell has its mark."""
    _, compared = compare(others)
    text = _text(others)
    ours = next(row for row in compared.hierarchies if row.name == "dhnn")
    path, node = (100 * score.mean for score in (ours.path_f1, ours.node_f1))
    right, level = (100 * score.mean for score in (ours.msr, ours.node_accuracy))

    assert "|S2S-Pool large||71.93 ± 0.09 /|75.29 ± 0.07||72.05 ± 0.06 /|75.43 ± 0.03|" in text
    assert "|72.88 ± 0.09 /|69.82 ± 0.07 *|" in text
    assert 1 == text.count(" *|")
    assert "|* Printed so, and almost certainly transposed" in text
    assert f"|here (dhnn, uppsala_|cnn)||||||||||{path:.2f} /|{node:.2f}|" in text
    assert "|VGG-RNN-Alt-Resi||65.3||80.5||+15.2|" in text
    assert f"|here (dhnn)||{right:.1f}||{level:.1f}||{level - right:+.1f}|" in text


def test_claims_of_the_merged_networks_have_a_verdict(repeated):
    """Each claim has a verdict or values from the errors; claims of absent runs have none."""
    _, compared = compare(repeated)
    error = {row.name: f"{100 * (1 - row.msr.mean):.1f}" for row in compared.hierarchies}
    two, one, none = error["merged"], error["merged_1"], error["merged_0"]
    apart, every = error["merged_apart"], error["merged_3"]

    values = _verdicts(repeated)

    assert len(published.MERGED_CLAIMS) == len(values)
    # The router's accuracy is the same in every run of the fixture.
    same = "categories: {}37.5 against 37.5\u00a0%"
    assert f"labels: {one} against {two}\u00a0%; {same.format('')}" == values[2]
    assert values[3].startswith(f"labels: yes, {one} and {two} against {none} and {apart}\u00a0%")
    assert " over images; " in values[3]
    assert " over 3 seeds] points); categories: not shown, 37.5 and 37.5 against" in values[3]
    assert values[4].startswith(f"labels: no, {one} and {two} against {every}\u00a0%")
    assert f"labels: {apart} against {none}\u00a0%; {same.format('')}" == values[5]
    assert [""] * 5 == [*values[:2], *values[7:]]


def test_claims_have_no_verdict_with_one_seed(others):
    """With one seed the values are shown without yes or no."""
    values = _verdicts(others)

    assert values[3].startswith("labels: one seed, no conclusion, ")
    assert values[6].startswith("seconds: one seed, no conclusion, ")
    assert not [text for text in values if re.search(r"\b(yes|no), \d|not shown", text)]


def test_claim_of_time_is_judged_by_seconds(tmp_path):
    """Seven networks take 119 s together; separate networks take about 180 s."""
    folder = write(tmp_path, seeds=(0, 1, 2), each=6, catalog=False, runs=OTHERS)
    before = _verdicts(folder)[6]
    verdicts = {}
    for name, seconds in {"yes": (178, 180, 182), "not shown": (120, 300, 120)}.items():
        for seed, took in enumerate(seconds):
            _change(
                folder.results_dir / "merged_apart" / str(seed) / "fit.json", total_seconds=took
            )
        verdicts[name] = _verdicts(folder)[6]

    assert before.startswith("seconds: not shown, 119 against 119\u00a0s")
    assert (
        "seconds: yes, 119 against 180\u00a0s (deciding pair +61.0 [+56.0 to +66.0 over 3 seeds] s)"
    ) == verdicts["yes"]
    assert verdicts["not shown"].startswith("seconds: not shown, 119 against 180\u00a0s")


def test_claims_compare_only_runs_that_are_alike(tmp_path):
    """A run with its own settings is not used for the claims on shared stages."""
    folder = write(tmp_path, seeds=(0,), each=6, catalog=False, runs=OTHERS)
    path = folder.results_dir / "merged_1" / "0" / "model.json"
    params = json.loads(path.read_text())["params"]
    params["merged"]["stop_gradient"] = True
    _change(path, params=params)
    values = _verdicts(folder)

    assert [""] * 3 == values[2:5]
    assert values[5]


def test_published_rows_have_the_depth_of_a_backbone():
    """N = 3 is ResNet-20 and n = 18 ResNet-110; the gains follow from HierNet's two tables."""
    for act, gains in (
        ("relu", [2.93, 3.57, 3.13, 3.77, 2.12]),
        ("elu", [2.76, 2.83, 2.04, 3.44, 1.44]),
    ):
        rows = [row for row in published.HIERNET if row.act == act]

        assert ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110"] == [
            row.backbone for row in rows
        ]
        assert gains == [round(row.full - row.flat, 2) for row in rows]


def test_controls_are_printed_with_what_they_cost(folder):
    """Each control shows target, reached cost and ratio; unequal and unknown costs are marked."""
    _, compared = compare(folder)
    text = _plain(page.render(controls.section(compared)))

    assert "202 T / 200 T" in text
    assert "= 1.010|" in text
    assert "= 1.100, not equal" in text
    assert "|not recorded|" in text
    assert "ensemble with equal parameters" in text
    assert "random groups, of other sizes" in text
