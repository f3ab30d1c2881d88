"""Benchmarks import the code as it is, and their synthetic tables are those that the stages read."""

import importlib
import json
from collections import defaultdict
from pathlib import Path

import duckdb
import numpy as np
import pytest

from benchmarks.__main__ import names
from benchmarks.shared import browse_data, table_stages
from benchmarks.table_growth import BAR, ROUNDS, StageGrowth
from curation import catalog
from curation.params.catalog import Params as CatalogParams
from scraper.demo.facts.personae import PERSONAE

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", names())
def test_benchmark_can_be_imported(name):
    """Every benchmark imports what exists, and has a function `run`."""
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_synthetic_tables_make_a_catalog(tmp_path, monkeypatch):
    """Stage `catalog` takes the tables of the benchmarks of browsing, lookup and queries."""
    monkeypatch.setattr(browse_data, "DRAWINGS", 50)
    data_dir, _ = browse_data.write(tmp_path, 1_000, shared_images=True)
    catalog.run(CatalogParams(), data_dir=data_dir, work_dir=tmp_path / "work")

    with duckdb.connect(data_dir / "catalog" / "catalog.duckdb", read_only=True) as connection:
        assert [(1_000,)] == connection.sql("SELECT count(*) FROM posts").fetchall()


def test_stages_take_the_synthetic_tables():
    """The stages run on the tables of the benchmarks of memory and growth, one after the other."""
    with table_stages.tables(1_000) as data_dir:
        assert list(table_stages.STAGES) == list(table_stages.costs(data_dir))


def test_look_alikes_are_the_families_of_the_demo():
    """`clustering.given: presets/look_alikes.json` groups the twelve major personae by family."""
    families = defaultdict(set)
    for persona in PERSONAE:
        families[persona.family].add(persona.name)
    families.pop("minor")
    named = json.loads((ROOT / "presets" / "look_alikes.json").read_text(encoding="utf-8"))

    assert dict(families) == {family: set(members) for family, members in named.items()}


def _seconds(work):
    """Returns the seconds of each size: half a second of start and `work`, within 3 % of noise."""
    noise = np.random.default_rng(0).normal(1, 0.03, len(ROUNDS))
    return {
        posts: (0.5 + work(posts / 1e6)) * factor
        for posts, factor in zip(ROUNDS, noise, strict=True)
    }


@pytest.mark.parametrize("seconds", [3, 30])
def test_growth_of_linear_work_is_one(seconds):
    """Work that takes a fraction of the start with 10,000 posts has the exponent 1 nevertheless."""
    growth = StageGrowth.of(_seconds(lambda millions: seconds * millions))

    assert 0.5 == pytest.approx(growth.curve.start, abs=0.03)
    assert 1 == pytest.approx(growth.largest, abs=0.1)


@pytest.mark.parametrize(
    "work",
    [
        lambda millions: 20 * millions**1.15,
        lambda millions: 10 * millions if millions < 0.2 else (10 * millions) ** 1.2,
        lambda millions: 100 * millions**1.6 if millions < 0.2 else 25 * millions,
    ],
    ids=["everywhere", "in the last decade", "in the first decade"],
)
def test_growth_above_linear_is_seen(work):
    """Work that grows faster than its posts misses the bar, in whichever decade it does so."""
    assert StageGrowth.of(_seconds(work)).largest > BAR
