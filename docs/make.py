"""
`python docs/make.py [--check] [--curves] [--report PAGE] [--browse URL]`: writes the generated parts of README.md and docs/.

The tree comes from the first line of each module's docstring, tables from the committed files of
`experiments/` and `benchmarks/results/`, queries from `docs/queries.sql` with their output on the
catalog at hand (kept as they are where there is no catalog), parameters from their models, drawings
from `generators/drawings.py`, the comments of the catalog (`curation/catalog_comments.sql`) from the
tables of `formats.md`.
`--check` writes nothing and exits 1 if a part is out of date. `--curves` also draws the figures of
experiments.md, which takes matplotlib; `--report results/report/index.html` also takes the image of
the report at the top of the README, which takes Chromium, and `--browse http://127.0.0.1:8423/` that
of the browse page, which must be open over the catalog of the demo.
"""

import argparse
import sys
from pathlib import Path

from generators import (
    answer,
    bars,
    capacity,
    claims,
    comments,
    drawings,
    experiments,
    finalists,
    ladder,
    longer,
    parameters,
    queries,
    records,
    regime,
    systems,
    tree,
)
from generators.text import ROOT, fill

DOCS = ROOT / "docs"


def parts() -> dict[str, str | None]:
    """Returns what stands between each pair of markers; None: left as it is."""
    return {
        "tree": tree.tree(),
        "answer": answer.answer(),
        "summary": answer.summary(),
        "longer": longer.longer_trainings(),
        "noise": answer.noise(),
        "comparison": experiments.comparison(),
        "claims": claims.claims(),
        **{f"results:{name}": experiments.results(name) for name in records.presets()},
        "averaging": experiments.averaging(),
        "swept": experiments.swept(),
        "adapted": experiments.adapted(),
        "decoded": experiments.decoded(),
        **{f"systems:{name}": systems.systems(name) for name in records.LONG},
        **{f"doublings:{name}": ladder.doublings(name) for name in ladder.PRESETS},
        **{f"test:{name}": finalists.finalists(name) for name in ("finalists", "narrow")},
        "regime": regime.regime(),
        "bars": bars.bars(),
        "capacity:measured": capacity.measured(),
        "capacity:plan": capacity.plan(),
        "queries": queries.queries(),
        "parameters": parameters.parameters(),
    }


def documents() -> list[Path]:
    """Returns README and every page, in alphabetical order."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def made() -> dict[Path, str]:
    """Returns the text of every document, drawing and comment of the catalog as it should be."""
    filled = parts()
    texts = {path: fill(path.read_text(encoding="utf-8"), filled) for path in documents()}
    texts |= {DOCS / "drawings" / name: text for name, text in drawings.drawings().items()}
    return texts | {comments.SCRIPT: comments.comments()}


def outdated() -> list[str]:
    """Returns the files whose text differs from what is made now."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in made().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Writes or checks the generated parts and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    parser.add_argument(
        "--curves", action="store_true", help="draw the figures of experiments.md too"
    )
    parser.add_argument("--report", type=Path, help="draw docs/report.png from this page too")
    parser.add_argument("--browse", metavar="URL", help="draw docs/browse.png from this page too")
    options = parser.parse_args()
    if options.check:
        for name in outdated():
            print(f"{name} is out of date. Run:\n  python docs/make.py")
        return 1 if outdated() else 0
    if options.curves:
        from generators import curves

        curves.draw()
    if options.report:
        from generators import screenshot

        screenshot.shoot(options.report)
    if options.browse:
        from generators import screenshot

        screenshot.shoot_browse(options.browse)
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
