"""The personae of the Uppsala report in its two presets: which they are, and that they exist."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import yaml

from scraper.params.personae import Params
from scraper.personae import choose

ROOT = Path(__file__).resolve().parents[2]
PAIRS = (
    ("akemi_homura", "akuma_homura"),
    ("hibiki_(kancolle)", "verniy_(kancolle)"),
    ("kaname_madoka", "ultimate_madoka"),
    ("saber_(fate)", "saber_alter"),
)
SIZES = [9, 11, 14, 17, 20, 22, 30]  # of the report's Table 5, with two misprints corrected


def preset(name):
    return yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text())


@pytest.fixture(scope="module")
def characters(real_data):
    """Returns the posts of every character tag of a real tag table."""
    with gzip.open(real_data / "danbooru-tags/tags.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["name"]: int(row["post_count"]) for row in rows if row["category"] == "4"}


def test_the_given_clusters_are_those_of_the_report():
    """Seven clusters hold the 123 names that the preset lists, each once."""
    clusters = json.loads((ROOT / "presets/report123_clusters.json").read_text())
    names = [name for cluster in clusters.values() for name in cluster]

    assert SIZES == sorted(map(len, clusters.values()))
    assert sorted(names) == sorted(set(names)) == sorted(preset("report123")["listing"]["names"])


def test_every_name_of_the_reports_is_a_tag_of_today(characters):
    """All 123 names and the four pairs are character tags with more than 1,000 posts."""
    names = [*preset("report123")["listing"]["names"], *(name for pair in PAIRS for name in pair)]

    assert [] == [name for name in names if characters.get(name, 0) <= 1000]


def test_report25_takes_25_labels_with_the_four_pairs(characters):
    """On counts of today, the pairs are among exactly 25 labels; the others have most images."""
    params = Params(**preset("report25")["personae"])
    outcome = choose(characters, {name: name for name in characters}, params)
    labels = {name for name, refusal in outcome.items() if refusal is None}
    others = labels - {name for pair in PAIRS for name in pair}

    assert 25 == len(labels)
    assert {name for pair in PAIRS for name in pair} < labels
    assert 17 == len(others)
    assert min(characters[name] for name in others) >= max(
        count for name, count in characters.items() if name not in labels
    )
