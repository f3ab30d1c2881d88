"""The source tree: every file once, with the first sentence of its docstring."""

import ast
import re
import subprocess
from pathlib import Path

from generators.text import ROOT

TOP = {
    "pyproject.toml": "dependencies with their reasons, ruff, mypy, pytest, import contracts",
    "Makefile": "`make repro`, `make test`, `make docs`, `make preset`, `make bench`",
    "mkdocs.yml": "the documentation site: its pages, in order",
    "params.yaml": "every number a person may change, one section per stage or method",
    "dvc.yaml": "the pipeline, top to bottom",
    "exclude.txt": "posts that stay out of the data set, by rules",
    "relabel.txt": "posts whose label was corrected by hand",
    "splits.csv": "posts that keep their split in later builds",
    "dvc.lock": "hashes of the inputs and outputs of each stage of the default preset",
    "README.md": "what it is, and the two commands that show it",
    "CITATION.cff": "how to cite the program",
    "CHANGELOG.md": "what changed for users, by version",
    "CONTRIBUTING.md": "how a change is made, checked and released",
    "LICENSE": "the terms of use",
    ".pre-commit-config.yaml": "checks of a commit: formatting, lint, length of its subject",
    ".dvcignore": "what DVC does not look at",
    ".gitignore": "what is not tracked",
}
FOLDERS = {
    "personae": "what the three packages share: settings, files, command line, text",
    "scraper": "posts and images from a Danbooru-style board, politely, with reasons",
    "curation": "from posts and images to balanced shards and a catalog",
    "train": "flat and hierarchical classifiers over the shards",
    "benchmarks": "`python -m benchmarks NAME`; results with machine, versions and commit",
    ".ci": "what must hold before a change lands",
    "docs": "this site, and the programs that make its generated parts",
    "tests": "mirrors the packages, plus names, documents and the whole chain",
}
FOLDED = {
    "presets/": "whole params files; `make preset NAME=…`",
    "locks/": "pinned versions with hashes, from which `make` installs",
    "experiments/": "recorded figures: PRESET/RUN-SEED.json",
    "benchmarks/results/": "one file for each result: value, bar, machine, versions, commit",
    "docs/drawings/": "the drawings of the method pages, which `docs/make.py` draws",
    ".dvc/": "settings of DVC",
}
"""Folders of many files of one kind, which stand in the tree as one line."""
OTHERS = {
    "queries.sql": "Ten questions to the catalog, in SQL",
    "py.typed": "Marks the package as typed (PEP 561)",
    "contact-sheet.png": "Drawings of the demo board",
    "browse.png": "The browse page over the demo's catalog",
    "report.png": "The first screen of a report",
    "hdcnn.svg": "Accuracy against work of conditional execution and compression",
    "regime.svg": "Points by which recover is ahead of its controls, by epochs and by width",
    "ladder.svg": "Accuracy against training operations: flat networks and hierarchies",
    "merged.svg": "Accuracy against alpha of the merged networks",
    "iframe-worker.js": "Lets the site's search run from files, without a server",
}
_COMMENTS = {
    ".sql": r"-- (.*)",
    ".html": r"(?:\{#|<!--) (.*?) ?(?:#\}|-->)",
    ".css": r"/\* (.*?) ?\*/",
    ".js": r"// (.*)",
    ".md": r"# (.*)",
    "": r"#!.*\n# ((?:.*\n)(?:# .*\n)*)",
}


def described(path: Path) -> str:
    """Returns what a file is for: the first sentence of its docstring, comment or heading."""
    if path.name in OTHERS:
        return OTHERS[path.name]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
        parts = [part for part in text.split("\n\n") if not part.lstrip().startswith("python -m ")]
        text = " ".join(parts[0].split()) if parts else ""
    else:
        comment = re.match(_COMMENTS[path.suffix], text)
        text = " ".join(comment[1].replace("\n# ", " ").split()) if comment else ""
    text = re.sub(r"^`[^`]*`: ?", "", text)
    sentence = re.split(r"(?<=\.)(?<!et al\.) ", text)[0].removesuffix(".")
    return sentence[:1].upper() + sentence[1:]


def tracked() -> list[str]:
    """Returns the paths of the files that git tracks, those with content."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file() and (ROOT / path).stat().st_size]


def entries() -> dict[str, str]:
    """Returns a sentence for each file of the tree, by path."""
    return {
        path: TOP[path] if "/" not in path else described(ROOT / path)
        for path in tracked()
        if not path.startswith(tuple(FOLDED))
    }


def tree() -> str:
    """Returns the tree as one block of text."""
    sentences = entries()
    top = [path for path in [*TOP, *sentences] if "/" not in path]
    lines = _aligned([("", name, sentences[name]) for name in dict.fromkeys(top)])
    for folder, text in FOLDERS.items():
        rows = [("", f"{folder}/", text)]
        inside = [path for path in sentences if path.startswith(f"{folder}/")]
        rows += [("  ", name.removeprefix(f"{folder}/"), line) for name, line in _folded(folder)]
        within = Path(folder)
        for path in sorted(map(Path, inside), key=lambda path: (path.parent, path.name)):
            if path.parent != within:
                within = path.parent
                rows.append(("  ", f"{within.relative_to(folder)}/", ""))
            indent = "  " if path.parent == Path(folder) else "    "
            rows.append((indent, path.name, sentences[path.as_posix()]))
        lines += ["", *_aligned(rows)]
    lines += ["", *_aligned([("", name, line) for name, line in _folded("")])]
    return "```text\n" + "\n".join(lines) + "\n```"


def _folded(folder: str) -> list[tuple[str, str]]:
    """Returns the folders with one line each that lie in `folder`, or in no folder of the tree."""
    return [
        (name, line)
        for name, line in FOLDED.items()
        if (name.split("/")[0] if name.split("/")[0] in FOLDERS else "") == folder
    ]


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    width = max(len(indent + name) for indent, name, _ in rows) + 2
    return [f"{indent + name:<{width}}{text}".rstrip() for indent, name, text in rows]
