"""Every decimal number of the report's answer and tables is one that the result files give."""

import json
import re
import statistics
from collections import defaultdict
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.report_fixture import CONTROLLED, EQUAL, arguments, compare, write
from train import report
from train.page import answer, page
from train.page.blocks import PageSection
from train.page.sections import controls, results

SECTIONS = ("answer", "results", "controls")
CONSTANTS = {"0.05"}  # the level of the verdicts


class _Text(HTMLParser):
    """Collects the text of each section, without drawings."""

    def __init__(self):
        super().__init__()
        self.texts, self.section, self.drawings = defaultdict(str), "", 0

    def handle_starttag(self, tag, attrs):
        self.drawings += tag == "svg"
        if tag == "section":
            self.section = ""
        if dict(attrs).get("id") in SECTIONS:
            self.section = dict(attrs)["id"]

    def handle_endtag(self, tag):
        self.drawings -= tag == "svg"

    def handle_data(self, data):
        if not self.drawings:
            self.texts[self.section] += f" {data}"


def decimals(page):
    """Returns the numbers with a decimal point of the checked sections, without their sign."""
    parser = _Text()
    parser.feed(page)
    text = " ".join(parser.texts[name] for name in SECTIONS)
    return set(re.findall(r"\d[\d,]*\.\d+", text))


def _documents(folder, name):
    return {
        path.parent.parent.name: [
            json.loads(each.read_text())
            for each in sorted(path.parent.parent.glob(f"*/{name}.json"))
        ]
        for path in folder.results_dir.glob(f"*/0/{name}.json")
    }


def _mean(values):
    return statistics.mean(values)


def compared(folder):
    """Returns the numbers of comparison.parquet as the page writes them."""
    rows = pq.read_table(folder.report_dir / "comparison.parquet").to_pylist()
    by_measure, known = defaultdict(list), set()
    for row in rows:
        values = [row[name] for name in ("value", "low", "high") if row[name] is not None]
        known |= {f"{abs(100 * value):.1f}" for value in values}
        known |= {f"{abs(value):.3f}" for value in values}
        if row["seed"] is not None and row["against"] is None and row["label"] is None:
            by_measure[row["run"], row["mode"], row["measure"]].append(row["value"])
    for values in by_measure.values():
        if len(values) > 1:
            known |= {
                f"{scale * statistics.stdev(values):.{n}f}" for scale, n in ((100, 1), (1, 3))
            }
    return known


def costs(folder):
    """Returns the costs of metrics.json, fit.json and cost.json as the page writes them."""
    metrics, fits, timed = (_documents(folder, name) for name in ("metrics", "fit", "cost"))
    known, flat = set(), {}
    for run in ("flat", *sorted(set(metrics) - {"flat"})):
        own = {
            name: _mean([each[name] for each in metrics[run]])
            for name in ("params", "macs_expected", "macs_max")
        }
        seconds = [
            _mean([each[name] for each in fits[run]])
            for name in ("total_seconds", "critical_path_seconds")
        ]
        flops = _mean([sum(net["train_flops"] for net in each["networks"]) for each in fits[run]])
        own |= {"seconds": seconds[0], "flops": flops}
        flat = flat or own
        known |= {f"{own[name] / 1e6:.3g}" for name in ("params", "macs_expected", "macs_max")}
        known |= {
            f"{own[name] / flat['macs_expected']:.2f}" for name in ("macs_expected", "macs_max")
        }
        known |= {f"{own['params'] / flat['params']:.2f}"}
        for more in (0, 1):  # without and with the flat network that gave the clusters
            known |= {f"{value + more * flat['seconds']:.1f}" for value in seconds}
            known |= {
                f"{(own[name] + more * flat[name]) / flat[name]:.2f}"
                for name in ("seconds", "flops")
            }
        for name in ("router_accuracy", "oracle_msr", "route_msr", "msr_full"):
            values = [each[name] for each in metrics[run] if each.get(name) is not None]
            if values:
                known |= {f"{100 * _mean(values):.1f}", f"{100 * statistics.stdev(values):.1f}"}
        for each in fits[run]:
            if each.get("match"):
                match = each["match"]
                known |= {f"{match[name] / 1e6:.3g}" for name in ("wanted", "reached")}
                known |= {f"{match['ratio']:.{digits}f}" for digits in (2, 3)}
        if run in timed:
            for batch in (0, 1):
                rows = [each["latency"][batch] for each in timed[run]]
                known.add(f"{_mean([row['median_ms'] / row['batch'] for row in rows]):.3g}")
                known.add(f"{max(row['p95_ms'] / row['batch'] for row in rows):.3g}")
    known.add("0.0")  # points that routing costs: 62.5 minus 62.5
    return known


@pytest.fixture
def folder(tmp_path):
    """Writes three seeds of a hierarchy with its five controls, and their report."""
    made = write(tmp_path, seeds=(0, 1, 2), each=12, catalog=False, runs=CONTROLLED, matches=EQUAL)
    report.run(**arguments(made))
    return made


def test_every_decimal_comes_from_a_result_file(folder):
    """Accuracies, differences, intervals, p values and costs are those of the files."""
    page = (folder.report_dir / "index.html").read_text(encoding="utf-8")
    shown = decimals(page)

    assert len(shown) > 80
    assert shown - compared(folder) - costs(folder) - CONSTANTS == set()


def test_edited_result_changes_the_page(folder):
    """Another prediction, cost or time of one file gives other numbers: nothing is typed in."""

    def numbers():
        loaded, compared = compare(folder)
        sections = [
            PageSection("answer", "", answer.write(compared, images=len(loaded.white))),
            results.section(loaded, compared, {}),
            controls.section(compared),
        ]
        texts = (f'<section id="{each.anchor}">{page.render(each)}</section>' for each in sections)
        return decimals("".join(texts))

    before = numbers()
    path = folder.results_dir / "uppsala" / "1" / "predictions.parquet"
    table = pq.read_table(path)
    wrong = pa.array([0] * len(table), pa.int32())
    index = table.schema.get_field_index("predicted")
    pq.write_table(table.set_column(index, "predicted", wrong), path)
    predicted = numbers()
    path = folder.results_dir / "uppsala" / "2" / "fit.json"
    path.write_text(path.read_text().replace('"total_seconds": 74.0', '"total_seconds": 87.7'))
    seconds = numbers()

    assert before != predicted
    assert {"78.6"} <= seconds - predicted
