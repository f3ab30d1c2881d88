"""Tests the documentation site: strict build, no remote address, and correct pages."""

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
# Python imports a module of this name at every start. The module forbids any connection.
NO_NETWORK = """
import socket

def refuse(*arguments, **_):
    raise OSError(f"the build tried to reach a network: {arguments}")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""
# Attributes that a browser fetches without a click. A link in the text is not among them.
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
# Only a site with a repository requests these addresses of the theme's script; ours has none.
ONLY_WITH_REPOSITORY = ("https://api.github.com/", "https://${e}/api/v4/projects/")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Returns the built site; the build fails at a warning and at any connection attempt."""
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
    """No style sheet or SVG imports or loads anything from another host."""
    for path in [*_files(site, "*.css"), *_files(site, "*.svg"), *_files(site, "*.html")]:
        text = path.read_text()
        loaded = re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import\s+([^;]+);", text)

        assert _remote(loaded) == [], path.name


def test_scripts_load_nothing_from_a_network(site):
    """No script of the site contains an address of another host that this site could request."""
    settings = (ROOT / "mkdocs.yml").read_text()
    held = {
        address
        for path in _files(site, "*.js")
        if path.parent.name != "search"  # the search index of our own text, which contains links
        for address in re.findall(r"[\"'`](https?://[^\"'`]*)", path.read_text())
    }

    assert "repo_url" not in settings
    assert [one for one in held if not one.startswith(ONLY_WITH_REPOSITORY)] == []


def test_a_remote_address_would_be_noticed():
    """The parser reports each of the four remote loads of a page, and no plain link."""
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
