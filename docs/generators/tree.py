"""The source tree: every file once, with the first sentence of its docstring."""

import ast
import re
from pathlib import Path

from generators.text import ROOT

TOP = {
    "pyproject.toml": "dependencies with their reasons, ruff, mypy, pytest, import contracts",
    "Makefile": "`make repro`, `make test`, `make docs`, `make preset`, `make bench`",
    "mkdocs.yml": "the documentation site: its pages, in order",
    "params.yaml": "every number a person may change, one section per stage or method",
    "dvc.yaml": "the pipeline, top to bottom",
    "dvc.lock": "hashes of the inputs and outputs of each stage of the default preset",
    "README.md": "what it is, and the two commands that show it",
    "CHANGELOG.md": "what changed for users, by version",
    "CONTRIBUTING.md": "how a change is made, checked and released",
    "LICENSE": "the terms of use",
    ".pre-commit-config.yaml": "checks of a commit: formatting, lint, length of its subject",
    ".dvc/": "settings of DVC; .dvcignore and .gitignore name what is not tracked",
}
FOLDERS = {
    "personae": "what the three packages share: settings, files, command line, text",
    "scraper": "posts and images from a Danbooru-style board, politely, with reasons",
    "curation": "from posts and images to balanced shards and a catalog",
    "train": "flat and hierarchical classifiers over the shards",
    "benchmarks": "`python -m benchmarks NAME`; results with machine, versions and commit",
    "docs": "this site, and the programs that make its generated parts",
    "tests": "mirrors the packages, plus names, documents and the whole chain",
}
REST = {
    "presets/": "whole params files; `make preset NAME=…`",
    "locks/": "pinned versions with hashes, from which `make` installs",
    ".ci/": "what must hold before a change lands",
    "experiments/": "recorded figures: PRESET/RUN-SEED.json",
}
_WIDTH = 26


def first_line(path: Path) -> str:
    """Returns the first sentence of a module's docstring, without the commands that start it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = [part for part in text.split("\n\n") if not part.lstrip().startswith("python -m ")]
    line = " ".join(paragraphs[0].split()) if paragraphs else ""
    line = re.sub(r"^`[^`]*`: ?", "", line)
    return re.sub(r"\.$", "", re.split(r"(?<=\.)(?<!et al\.) ", line)[0])


def sources(package: str) -> list[Path]:
    """Returns the Python files of a package that are not empty, a folder's own files first."""
    files = sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent, path.name))
    return [path for path in files if path.stat().st_size]


def tree() -> str:
    """Returns the tree as one block of text."""
    lines = [f"{name:<{_WIDTH}}{text}" for name, text in TOP.items()]
    for package, text in FOLDERS.items():
        if not (ROOT / package).is_dir():
            continue
        lines += ["", f"{package + '/':<{_WIDTH}}{text}"]
        folder = ""
        for path in sources(package):
            name = path.relative_to(ROOT / package)
            if name.parent.as_posix() != folder and name.parent != Path():
                folder = name.parent.as_posix()
                lines.append(f"  {folder}/")
            indent = "    " if name.parent != Path() else "  "
            lines.append(f"{indent + name.name:<{_WIDTH - 1}} {first_line(path)}")
    lines += ["", *(f"{name:<{_WIDTH}}{text}" for name, text in REST.items())]
    return "```text\n" + "\n".join(lines) + "\n```"
