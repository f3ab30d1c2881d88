"""
A dress rehearsal of preset `report25` at a twentieth of its size: `dvc repro`, from board to report.

A local board has the report's tags with drawn figures: 25 personae and ten smaller ones, among them
the four pairs of a form and its base, and posts that each filter must refuse. The preset is used as
it is, but for the address, the numbers of images and the epochs, all divided by 20. Two more values
differ: shares of a few dozen images need a wider `split.tolerance`, and figures that one program has
drawn are alike in their keypoints (`duplicates.artwork: ignore`).
"""

import colorsys
import json
import os
import random
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.shared.result import Result
from scraper.demo.board import folder
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts.params import Params
from scraper.demo.facts.personae import PERSONAE, Colour, Persona
from scraper.demo.facts.record import DemoPost
from scraper.demo.facts.tags import TagRelation
from scraper.demo.painter.drawing import GROUNDS, STYLES, draw
from scraper.demo.painter.shelf import Shelf
from scraper.demo.server.thread import serving

SCALE = 20
BASES = {
    "akuma_homura": "akemi_homura",
    "verniy_(kancolle)": "hibiki_(kancolle)",
    "ultimate_madoka": "kaname_madoka",
    "saber_alter": "saber_(fate)",
}
"""Form to base character: the report's four pairs of look-alikes."""
OTHERS, SMALLER = 17, 10
"""Personae that fill the 25 labels, and personae with too few images for a label."""
EXTRA_TAGS = (("comic",), ("greyscale", "monochrome"), ("cosplay",), ("multiple_views",))
"""Tags of posts that a filter must refuse, one set for every tenth post."""
COMMANDS = {
    "plan": "python -m scraper plan",
    "scraper": "python -m scraper",  # the whole command scores the plan, its stages do not
    "curation": "dvc repro catalog",
    "training": "dvc repro evaluate",
    "report": "dvc repro",
}


def _names() -> list[str]:
    """Returns the tags: the pairs, then others of the report, labels first."""
    clusters = json.loads(Path("presets/report123_clusters.json").read_text())
    pairs = [*BASES, *BASES.values()]
    others = sorted(set(chain.from_iterable(clusters.values())) - set(pairs))
    return pairs + others[: OTHERS + SMALLER]


def _turned(colour: Colour, turn: float) -> Colour:
    """Returns the colour with its hue turned by a share of the circle."""
    hue, light, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1, light, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _figure(name: str, names: list[str]) -> Persona:
    """Returns the features of a persona: a form differs from its base in eyes and accessory."""
    rank = names.index(BASES.get(name, name))
    drawn, turn = PERSONAE[rank % len(PERSONAE)], rank // len(PERSONAE) / 3
    other = PERSONAE[(rank + 5) % len(PERSONAE)] if name in BASES else drawn
    return replace(
        drawn,
        name=name,
        hair_colour=_turned(drawn.hair_colour, turn),
        main=_turned(drawn.main, turn),
        trim=_turned(drawn.trim, turn),
        eyes=other.eyes,
        accessory=other.accessory,
        accessory_colour=other.accessory_colour,
    )


def _draw(root: Path, persona: Persona, count: int) -> None:
    chance = random.Random(persona.name)  # noqa: S311  # drawings, not secrets
    target = root / persona.name
    target.mkdir(parents=True)
    for number in range(count):
        ground = "white" if chance.random() < 0.4 else chance.choice(GROUNDS)
        image = draw(
            [persona],
            kind="portrait",
            ground=ground,
            style=chance.choice(STYLES),
            seed=number,
            width=chance.randrange(300, 420),
            height=chance.randrange(400, 560),
        )
        image.save(target / f"{number:04d}.jpg", quality=90)


def _draw_all(root: Path) -> None:
    """Draws 96 to 144 images of each of 25 personae, and 20 to 40 of each smaller persona."""
    names = _names()
    labels = len(names) - SMALLER
    counts = [96 + 2 * rank for rank in range(labels)] + [20 + 2 * rank for rank in range(SMALLER)]
    figures = [_figure(name, names) for name in names]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_draw, repeat(root), figures, counts))


def _tagged(post: DemoPost, number: int) -> DemoPost:
    """Returns the post with the base of its character; every tenth post must be refused."""
    (name,) = post.tags["character"]
    characters = {name, BASES.get(name, name)}
    general = set(post.tags["general"])
    if number % 10 == 0:
        general |= set(EXTRA_TAGS[number // 10 % len(EXTRA_TAGS)])
    tags = post.tags | {"character": tuple(sorted(characters)), "general": tuple(sorted(general))}
    return replace(post, tags=tags, all_tags=tuple(sorted(chain.from_iterable(tags.values()))))


def _board(images: Path) -> DemoBoard:
    params = Params(cache="", workers=0)
    plain = folder.board(images, None, params)
    posts = [_tagged(post, number) for number, post in enumerate(plain.posts)]
    plain.close()
    implications = [
        TagRelation(number, form, base, "active")
        for number, (form, base) in enumerate(BASES.items(), start=1)
    ]
    shelf = Shelf("", key="rehearsal")
    return DemoBoard(posts, shelf=shelf, workers=0, implications=implications)


def _preset(url: str) -> dict[str, Any]:
    """Returns the preset with the numbers of images and epochs divided by `SCALE`."""
    document: dict[str, Any] = yaml.safe_load(Path("presets/report25.yaml").read_text())
    document["site"] |= {"name": url, "api_rate": 1000}
    for section, key in (
        ("personae", "min_images"),
        ("personae", "max_images"),
        ("persona", "min_samples"),
        ("shards", "samples_per_shard"),
    ):
        document[section][key] //= SCALE
    document["duplicates"]["artwork"] = "ignore"  # figures of one painter are like copies
    document["split"]["tolerance"] = 0.2  # shares of a few dozen images are coarse
    document["loop"] |= {"epochs": 3}
    document["uppsala"] |= {"root_epochs": 2, "subnetwork_epochs": 1}
    return document


def _seconds(project: Path, command: str) -> float:
    """Runs a command in the project; returns its seconds."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    begun = time.perf_counter()
    done = subprocess.run(
        command.split(), cwd=project, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{command}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return round(time.perf_counter() - begun, 1)


def _checks(project: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """Returns what must hold after the run, and figures of it."""
    with duckdb.connect(str(project / "data/catalog/catalog.duckdb"), read_only=True) as base:
        labels = {row[0] for row in base.execute("SELECT DISTINCT label FROM samples").fetchall()}
        samples = base.execute("SELECT count(*) FROM samples").fetchall()[0][0]
        halves = base.execute("SELECT avg((split = 'train')::INT) FROM samples").fetchall()[0][0]
    score = json.loads((project / "data/plan/score.json").read_text())
    ratios = {
        name: value["ratio"]
        for name, value in score.items()
        if isinstance(value, dict) and value.get("ratio") is not None
    }
    runs = sorted(project.glob("results/*/0/metrics.json"))
    results = {path.parts[-3]: json.loads(path.read_text())["msr"] for path in runs}
    checks = {
        "25 labels": len(labels) == len(BASES) * 2 + OTHERS,
        "the four pairs are labels": {*BASES, *BASES.values()} <= labels,
        "plan within 10 %": all(0.9 <= ratio <= 1.1 for ratio in ratios.values()),
        "half of the images train": abs(halves - 0.5) <= 0.05,
        "three runs are evaluated": set(results) == {"flat", "uppsala", "uppsala_random"},
        "the report is written": (project / "results/report/index.html").is_file(),
    }
    return checks, {"samples": samples, "plan_ratios": ratios, "accuracy": results}


def run() -> Result:
    """Returns the number of checks that hold; all must."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _draw_all(root / "images")
        project = root / "personae"
        subprocess.run(["git", "clone", "-q", ".", str(project)], check=True)
        with serving(_board(root / "images"), Params(rate=0, cache="", workers=0)) as served:
            (project / "params.yaml").write_text(yaml.safe_dump(_preset(served.url)))
            seconds = {part: _seconds(project, command) for part, command in COMMANDS.items()}
        checks, figures = _checks(project)
    return Result(
        value=float(sum(checks.values())),
        unit=f"of {len(checks)} checks",
        bar=f"{len(checks)}",
        ok=all(checks.values()),
        runs=[float(check) for check in checks.values()],
        details={"checks": checks, "seconds": seconds, **figures},
        commands=list(COMMANDS.values()),
    )
