"""How the report was made: data, device, versions, seeds, commands and all parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.page.blocks import PageSection
from train.page.formatting import count
from train.page.results import Results

_DEVICE = {"device": "", "device_name": "", "threads": "threads", "cpu_cores": "cores"}


@dataclass(frozen=True, slots=True)
class MadeContent:
    """What `templates/made.html` shows: named facts, and the parameters of each run as JSON."""

    facts: Mapping[str, str]
    parameters: Mapping[str, str]


def section(
    results: Results,
    *,
    params: Mapping[str, Any],
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> PageSection:
    """Returns what a person needs to make the same page again."""
    fit = results.flat.seeds[results.seeds[0]].fit
    samples = results.manifest.samples
    all_versions = {**results.manifest.versions, **fit.versions, **versions}
    facts = {
        **provenance,
        "Root hash of the shards": results.manifest.root_sha256,
        "Images": ", ".join(f"{split} {count(n)}" for split, n in samples.items()),
        "Machine": _machines(results),
        "Versions": ", ".join(
            f"{name} {version}" for name, version in sorted(all_versions.items())
        ),
        "Seeds": ", ".join(map(str, results.seeds)),
        "Commands": "dvc repro; the page alone: python -m train report",
    }
    settings = {"report": params} | {
        run.name: next(iter(run.seeds.values())).model.params for run in results.runs
    }
    parameters = {
        name: json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
        for name, values in settings.items()
    }
    return PageSection("made", "How this was made", MadeContent(facts, parameters))


def _machines(results: Results) -> str:
    """Returns the machine of the trainings; of several, each with the runs that it trained."""
    trained: dict[str, list[str]] = {}
    for run in results.runs:
        for seed, made in run.seeds.items():
            parts = (f"{unit} {getattr(made.fit, name)}".strip() for name, unit in _DEVICE.items())
            trained.setdefault(", ".join(parts), []).append(f"{run.name} {seed}")
    if len(trained) == 1:
        return next(iter(trained))
    return "; ".join(f"{machine}: {', '.join(runs)}" for machine, runs in trained.items())
