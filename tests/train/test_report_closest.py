"""The section of the report on the closest images of different splits."""

import base64
import io
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.documents import CertificateDocument, LikePair
from tests.train.report_data_fixture import SIDE
from tests.train.report_fixture import HOSTILE, arguments, write
from train import report
from train.page import closest, page, thumbnails
from train.page.sections import closest as section


def write_certificate(folder, pairs, *, mode="hash"):
    """Writes the certificate of stage `split` with these pairs."""
    path = folder.data_dir / "split" / "certificate.json"
    path.parent.mkdir(exist_ok=True)
    CertificateDocument(
        distance=31,
        passed=True,
        posts=100,
        posts_without_hash=0,
        pairs_told_apart=0,
        pairs_within={},
        closest=None,
        labels={},
        least_difference=0.08,
        like=tuple(pairs),
        mode=mode,
        seed=0,
        shares={},
    ).write(path)
    return path


def pair(first, second, number, *, mirrored=False):
    """Returns a pair of the certificate."""
    return LikePair(
        post_a=first,
        post_b=second,
        split_a="train",
        split_b="test",
        label=HOSTILE[0],
        difference=0.1 + number / 1000,
        mirrored=mirrored,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes results of one seed."""
    return write(tmp_path_factory.mktemp("closest"), seeds=(0,), each=6, catalog=False)


@pytest.fixture(scope="module")
def posts(folder):
    """Returns the posts of the shards."""
    return pq.read_table(folder.data_dir / "shards" / "samples.parquet")["post_id"].to_pylist()


@pytest.fixture
def images(folder):
    """Returns the small copies of the images in the shards."""
    return thumbnails.opened(folder.data_dir / "shards", side=SIDE)


def test_report_shows_both_images_of_each_pair(folder, posts):
    """The page has the images of the pairs in order, and a hostile label stays text."""
    pairs = [pair(posts[2 * n], posts[2 * n + 1], n, mirrored=n == 1) for n in range(8)]
    write_certificate(folder, pairs)
    report.run(**arguments(folder, runs={}))
    text = (folder.report_dir / "index.html").read_text(encoding="utf-8")
    part = text.split('id="closest"')[1].split("</section>")[0]
    shown = re.findall(r'src="data:image/webp;base64,([^"]+)" alt="post (\d+),', part)

    assert [int(post) for _, post in shown] == posts[:16]
    assert "2 more pairs" in part
    assert part.count("train and test, 0.101, one mirrored") == 1
    assert "A difference of more than 0.08 is required" in part
    assert HOSTILE[0] not in part
    copy = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0][0]))), dtype=int)
    table = pq.read_table(folder.data_dir / "shards" / "samples.parquet")
    row = table.slice(0, 1).to_pylist()[0]
    shard = (folder.data_dir / "shards" / row["shard"]).read_bytes()
    stored = shard[row["image_offset"] : row["image_offset"] + row["image_bytes"]]
    assert np.abs(copy - np.asarray(Image.open(io.BytesIO(stored)), dtype=int)).mean() < 8


def test_given_splits_require_no_difference(folder, posts, images):
    """The sentence on the limit is another one where the source gave the splits."""
    path = write_certificate(folder, [pair(posts[0], posts[1], 0)], mode="given")
    text = page.render(section.section(closest.read(path, images)))

    assert "The splits are the source's own" in text
    assert "is required, or stage" not in text


@pytest.mark.parametrize(
    ("content", "warns"),
    [
        (None, False),
        ("no JSON", True),
        ("[]", True),
        (json.dumps({"least_difference": 0.0, "like": [], "mode": "hash"}), False),
        (json.dumps({"least_difference": 0.0, "like": [{"post_a": 1}], "mode": "hash"}), True),
    ],
)
def test_certificate_without_pairs_leaves_the_section_out(tmp_path, images, caplog, content, warns):
    """An absent or empty certificate is silent, a damaged one is named; the report goes on."""
    path = tmp_path / "certificate.json"
    if content is not None:
        path.write_text(content)

    assert closest.read(path, images) is None
    assert warns == bool(caplog.records)


def test_pair_of_other_shards_leaves_the_section_out(folder, images, caplog):
    """A post that no shard holds: the certificate is of another build."""
    path = write_certificate(folder, [pair(1, 2, 0)])

    assert closest.read(path, images) is None
    assert "Image 1 is in no shard" in caplog.text
