"""The section of the report on doubtful labels."""

import json
from html import escape
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pytest

from curation.browse import server
from personae import tables
from tests.train.report_data_fixture import ROOT_HASH
from tests.train.report_fixture import HOSTILE, LABELS, arguments, write
from train import noise as command
from train import report
from train.page import noise, page
from train.page.sections import noise as section


def write_noise(path, *, labels=LABELS, root=ROOT_HASH, suspects=7):
    """Writes `suspects` suspects among ten samples of the first two labels, one of the third."""
    rows = [
        {
            "post_id": 100 * leaf + rank,
            "split": "val" if rank % 2 else "train",
            "fold": rank % 5,
            "label": label,
            "rank": rank,
            "predicted": labels[leaf - 1],
            "self_confidence": 0.125,
            "margin": 0.75 - rank / 100,
            "threshold": 0.5,
            "is_suspect": rank < (suspects, suspects, 1)[leaf],
        }
        for leaf, label in enumerate(labels[:3])
        for rank in range(10)
    ]
    facts = {"root_sha256": root, "folds": 5, "seed": 0, "params": {}}
    table = pa.Table.from_pylist(rows[::-1], schema=command.SCHEMA)
    tables.write(path, table.replace_schema_metadata({"personae.noise": json.dumps(facts)}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of one seed with doubtful labels."""
    made = write(tmp_path_factory.mktemp("noise"), seeds=(0,), each=6, catalog=False)
    write_noise(made.results_dir / "noise" / "noise.parquet")
    report.run(**arguments(made, runs={}))
    return made


def test_report_has_the_section_where_labels_were_examined(folder):
    """Hostile labels stay text, and the section stands once, under its heading."""
    text = (folder.report_dir / "index.html").read_text(encoding="utf-8")

    assert 1 == text.count('id="noise"')
    assert "15 of 30 samples of train and val (50.0 %) are suspect" in text
    assert escape(HOSTILE[0]) in text
    assert HOSTILE[0] not in text


def test_tables_show_counts_and_the_most_doubtful_samples(tmp_path):
    """Five samples of a label are shown, the most doubtful first, and each leads to its post."""
    path = write_noise(tmp_path / "noise.parquet")
    content = section.section(noise.read(path, root_sha256=ROOT_HASH, each=5)).content

    assert [("7", "10", "70.0"), ("7", "10", "70.0"), ("1", "10", "10.0")] == [
        row[1:] for row in content.labels.rows
    ]
    assert set(LABELS[:2]) == {row[0] for row in content.labels.rows[:2]}
    assert 11 == len(content.samples.rows)
    first = next(row for row in content.samples.rows if row[0] == LABELS[1])
    assert (LABELS[1], "100", "train", LABELS[0], "12.5", "87.5") == first
    posts = [int(row[1]) for row in content.samples.rows if row[0] == LABELS[1]]
    assert [100, 101, 102, 103, 104] == posts
    for number, row in enumerate(content.samples.rows):
        address = urlsplit(content.samples.links[number, 1])
        assert ("127.0.0.1", server.PORT) == (address.hostname, address.port)
        assert [("post", row[1])] == parse_qsl(address.query)


@pytest.mark.parametrize(("suspects", "each"), [(0, 5), (7, 0)])
def test_section_without_rows_renders(tmp_path, suspects, each):
    """No suspect but one, or no sample to show."""
    path = write_noise(tmp_path / "noise.parquet", suspects=suspects)
    read = noise.read(path, root_sha256=ROOT_HASH, each=each)

    assert "suspect" in page.render(section.section(read))
    assert bool(each) == (section.section(read).content.samples is not None)


def test_section_is_left_out_where_it_cannot_be_right(tmp_path, caplog):
    """No file; a file of other data; a damaged file: no section, and a warning that says why."""
    path = tmp_path / "noise.parquet"
    assert noise.read(path, root_sha256=ROOT_HASH, each=5) is None
    assert not caplog.records

    write_noise(path, root="c" * 64)
    assert noise.read(path, root_sha256=ROOT_HASH, each=5) is None
    assert "Run `python -m train noise` again" in caplog.messages[-1]

    path.write_bytes(b"PAR1 damaged")
    assert noise.read(path, root_sha256=ROOT_HASH, each=5) is None
    tables.write(path, pa.table({"post_id": [1]}))
    assert noise.read(path, root_sha256=ROOT_HASH, each=5) is None
    assert all("cannot be read" in message for message in caplog.messages[-2:])
