"""Benchmarks import the code as it is; the demo's file of look-alikes is the demo's families."""

import importlib
import json
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.__main__ import names
from scraper.demo.facts.personae import PERSONAE

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", names())
def test_benchmark_can_be_imported(name):
    """Every benchmark imports what exists, and has a function `run`."""
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_look_alikes_are_the_families_of_the_demo():
    """`clustering.given: presets/look_alikes.json` groups the twelve major personae by family."""
    families = defaultdict(set)
    for persona in PERSONAE:
        families[persona.family].add(persona.name)
    families.pop("minor")
    named = json.loads((ROOT / "presets" / "look_alikes.json").read_text(encoding="utf-8"))

    assert dict(families) == {family: set(members) for family, members in named.items()}
