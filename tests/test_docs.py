"""The documentation site: it builds strictly, loads nothing from a network, and its values hold."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
METHODS = ROOT / "docs" / "methods"
PAGES = sorted(path.stem for path in METHODS.glob("*.md"))
# A module of this name is imported at every start of Python: here it forbids any connection.
NO_NETWORK = """
import socket

def refuse(*arguments, **_):
    raise OSError(f"the build tried to reach a network: {arguments}")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""
# What a browser fetches by itself; a link in the text is fetched by nobody until it is clicked.
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
# Addresses in the theme's script that it asks only for a site with a repository, which ours lacks.
ONLY_WITH_REPOSITORY = ("https://api.github.com/", "https://${e}/api/v4/projects/")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; the build fails at a warning and at any attempt to reach a network."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder / "site"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder), "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder / "site"


class _Loads(HTMLParser):
    """Collects the addresses that a browser loads for a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href"))
        self.addresses += [values[name] for name in LOADED.get(tag, ()) if name in values]
        self.addresses += re.findall(r"url\(([^)]*)\)", values.get("style") or "")


def _remote(addresses):
    return [one for one in addresses if re.match(r"\s*[\"']?(https?:)?//", one or "")]


def _files(site, pattern):
    files = sorted(site.rglob(pattern))
    assert files
    return files


def test_pages_load_nothing_from_a_network(site):
    """No script, style sheet, image or frame of any page has an address of another host."""
    remote = {}
    for path in _files(site, "*.html"):
        loads = _Loads()
        loads.feed(path.read_text())
        remote[path.name] = _remote(loads.addresses)

    assert len(remote) > 15
    assert {name: found for name, found in remote.items() if found} == {}


def test_styles_and_drawings_load_nothing_from_a_network(site):
    """No style sheet or drawing imports or draws from another host."""
    for path in [*_files(site, "*.css"), *_files(site, "*.svg"), *_files(site, "*.html")]:
        text = path.read_text()
        loaded = re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import\s+([^;]+);", text)

        assert _remote(loaded) == [], path.name


def test_scripts_load_nothing_from_a_network(site):
    """No script of the site holds the address of a host that this site could ever ask."""
    settings = (ROOT / "mkdocs.yml").read_text()
    held = {
        address
        for path in _files(site, "*.js")
        if path.parent.name != "search"  # the index of our own words, links among them
        for address in re.findall(r"[\"'`](https?://[^\"'`]*)", path.read_text())
    }

    assert "repo_url" not in settings
    assert [one for one in held if not one.startswith(ONLY_WITH_REPOSITORY)] == []


def test_a_remote_address_would_be_noticed():
    """The checks above see every way to load something."""
    loads = _Loads()
    loads.feed(
        '<script src="https://a.example/x.js"></script><link rel="preconnect" href="//b.example">'
        '<img src="https://c.example/x.png"><p style="background: url(https://d.example/x)"></p>'
        '<a href="https://e.example">a link is not loaded</a><img src="own.png">'
    )

    assert len(_remote(loads.addresses)) == 4


@pytest.mark.parametrize("name", PAGES)
def test_method_pages_are_whole(site, name):
    """Each method page has a drawing, formulas as MathML, a worked example and its source."""
    html = (site / "methods" / f"{name}.html").read_text()
    text = (METHODS / f"{name}.md").read_text()

    assert re.search(r'<img[^>]*src="\.\./drawings/\w+\.svg"', html)
    assert "<math" in html
    assert "arithmatex" not in html
    assert re.findall(
        r"^## (Formulas|Worked example|How ours differs|Source)$", text, re.MULTILINE
    ) == [
        "Formulas",
        "Worked example",
        "How ours differs",
        "Source",
    ]
