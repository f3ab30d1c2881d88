"""Tests README and documentation against the program: generated parts, commands, links, words."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()
MANUAL = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in DOCUMENTS
    if path.name != "CHANGELOG.md"
}
"""README, CONTRIBUTING and every page of docs/, by name."""
SHELL = "\n".join(
    block for text in MANUAL.values() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
)
INLINE = "\n".join(code for text in MANUAL.values() for code in re.findall(r"`([^`\n]+)`", text))
# Our upper limit for the length of the README.
MOST_LINES, MOST_BYTES = 220, 12_000


@pytest.fixture
def make(monkeypatch):
    """Returns the program docs/make.py."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import make

    return make


def test_made_parts_are_up_to_date(make, monkeypatch):
    """The generated parts of the documents equal the output of `python docs/make.py`."""
    # The output of the queries is left out, because it needs the recorded catalog.
    monkeypatch.setattr(make.queries, "queries", lambda: None)

    assert make.outdated() == []


def test_generated_parts_have_a_place_and_name_their_command(make, monkeypatch):
    """Each generated part has markers in a document, and that document names docs/make.py."""
    monkeypatch.setattr(make.queries, "queries", lambda: "")
    parts = make.parts()
    holders = {
        part: [name for name, text in MANUAL.items() if f"<!-- {part} -->" in text]
        for part in parts
    }
    names = {name for held in holders.values() for name in held}

    assert [part for part, held in holders.items() if not held] == []
    assert [name for name in names if "docs/make.py" not in MANUAL[name]] == []


def test_every_tracked_file_has_its_line(make):
    """The tree lists each tracked file once with a sentence, or the folder that contains it."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    tracked = [path for path in tracked if (ROOT / path).is_file() and (ROOT / path).stat().st_size]
    folded = tuple(make.tree.FOLDED)
    entries = make.tree.entries()
    names = Counter(line.split()[0] for line in MANUAL["docs/tree.md"].splitlines() if line.strip())

    assert [path for path in tracked if path not in entries and not path.startswith(folded)] == []
    assert [path for path, sentence in entries.items() if not sentence] == []
    for name, number in Counter(path.split("/")[-1] for path in entries).items():
        assert names[name] == number, name
    assert [name for name in folded if not any(path.startswith(name) for path in tracked)] == []


def test_ten_queries_are_documented(make):
    """docs/queries.md shows the ten queries of docs/queries.sql, each with an output."""
    page = MANUAL["docs/queries.md"]
    queries = make.queries.split_queries()

    assert len(queries) == 10
    assert [
        title for title, query in queries if f"## {title}\n\n```sql\n{query}\n" not in page
    ] == []
    assert page.count("```text\n") == 10


def test_readme_is_short():
    """The README has at most 220 lines and 12 kB."""
    assert len(README.splitlines()) <= MOST_LINES
    assert len(README.encode()) <= MOST_BYTES


@pytest.mark.parametrize("key", sorted(set(re.findall(r"-S '?(\+?[\w.]+)=", SHELL + INLINE))))
def test_overridden_parameters_exist(key):
    """An overridden parameter is in params.yaml, or has a plus if params.yaml omits it."""
    section, *names = key.lstrip("+").split(".")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())

    assert section in values
    assert key.startswith("+") is bool(names and names[0] not in values[section])


def _commands():
    lines = re.findall(r"(?<![\w-])python -m .*", SHELL)
    lines += [code for code in INLINE.splitlines() if code.startswith("python -m ")]
    # `torchrun … -m train flat` starts the same module.
    lines += [f"python {module}" for module in re.findall(r"torchrun .*?(-m .*)", SHELL)]
    named = set()
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        has_command = len(words) > 2 and not words[2].startswith("-")
        named.add(" ".join(words[:3] if has_command else words[:2]))
    return sorted(named)


@pytest.mark.parametrize("command", _commands())
def test_commands_exist(command, monkeypatch, capsys):
    """Every `python -m` command of the documents exists with its sub-command."""
    _, module, *arguments = command.split()
    if module in ("scraper", "curation", "train"):  # in this process, which is ten times as fast
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as end:
            importlib.import_module(f"{module}.__main__").main([*arguments, "--help"])
        code, printed = end.value.code, capsys.readouterr().out
    else:
        words = [sys.executable, *command.split(), "--help"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        code, printed = done.returncode, done.stdout

    assert not code
    assert "usage" in printed.lower()


def test_installed_commands_and_extras_exist():
    """Installed commands are those of pyproject.toml, and the page of extras has each of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shown = set(re.findall(r"\bpersonae-\w+", SHELL + INLINE))
    extras = MANUAL["docs/install.md"].split("| extra |")[1].split("\n\n")[0]

    assert shown == set(project["scripts"])
    assert set(re.findall(r"^\| `(\w+)` \|", extras, re.MULTILINE)) == set(
        project["optional-dependencies"]
    )


def test_make_targets_exist():
    """Every `make` target of the documents is in the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"^make (\w+)", SHELL + "\n" + INLINE, flags=re.MULTILINE))

    assert {"repro", "test", "docs"} <= used
    assert used <= targets


def test_presets_are_documented():
    """The page of presets has every file of presets/, and README names no other preset."""
    files = {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    table = README.split("## Presets")[1].split("##")[0]

    assert [name for name in files if f"| `{name}` |" not in MANUAL["docs/install.md"]] == []
    assert set(re.findall(r"`(\w+)`", table)) == files


def _links(text):
    return [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]


@pytest.mark.parametrize("name", sorted(MANUAL))
def test_images_and_files_exist(name):
    """Every image and file that a document links to is in the repository."""
    folder = (ROOT / name).parent
    missing = [link for link in _links(MANUAL[name]) if not (folder / link).is_file()]

    assert missing == []


@pytest.mark.parametrize("name", sorted(MANUAL))
def test_named_files_of_the_repository_exist(name):
    """A path in code quotes that begins with a folder of ours exists, unless it has a placeholder."""
    folders = "benchmarks|curation|docs|experiments|personae|presets|scraper|tests|train"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+)`", MANUAL[name])
    named = [path for path in paths if not re.search("[A-Z]{2}", path) or "PROTOCOL" in path]

    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", sorted(MANUAL))
def test_links_to_other_sites_are_whole(name):
    """A link to another site has https, a host name and no character that ends an address."""
    links = re.findall(r"(?:\]\(|<)(https?:[^)>]*)[)>]", MANUAL[name])
    wrong = []
    for link in links:
        parts = urlsplit(link)
        is_whole = re.fullmatch(r"(?:[\w-]+\.)+[a-z]{2,}", parts.netloc)
        if parts.scheme != "https" or not is_whole or re.search(r"[\s\"'`…]|[.,;]$", link):
            wrong.append(link)

    assert wrong == []


def test_documents_link_to_files():
    """README has more than 15 links, so that the link check has an input."""
    assert len(_links(README)) > 15


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs").rglob("*.md")))
def test_every_page_is_in_the_navigation(name):
    """Every page of the site is in the navigation."""
    assert f"{name}\n" in (ROOT / "mkdocs.yml").read_text()


def test_no_path_of_a_machine():
    """No document contains a path of a particular machine."""
    assert [
        path.name
        for path in DOCUMENTS
        if re.search(r"(^|[\s(\"'`])/(home|work|root|tmp)/", path.read_text())
    ] == []
