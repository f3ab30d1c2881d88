"""Tests that an unmodified gallery-dl scrapes the board completely, in an environment of its own."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from scraper.demo.board import booru, unusual
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving

ROOT = Path(__file__).resolve().parents[3]
AGENT = {"User-Agent": "personae-tests/1 (+https://example.org)"}
SMALL = TINY.model_copy(update={"posts_large": 4, "posts_small": 3, "posts_minor": 1})


@pytest.fixture(scope="module")
def program():
    """Returns gallery-dl: from the environment of the benchmarks, or from the search path."""
    installed = sorted(ROOT.glob("work/peers/gallery-dl-*/bin/gallery-dl"))
    path = installed[-1] if installed else shutil.which("gallery-dl")
    if path is None:
        pytest.skip("gallery-dl is absent: `python -m benchmarks fetch_vs_gallery_dl` installs it")
    return path


def every_post(url):
    posts, query = [], {"limit": 200}
    while page := requests.get(f"{url}/posts.json", query, headers=AGENT, timeout=60).json():
        posts += page
        query["page"] = f"b{page[-1]['id']}"
    return posts


def test_an_unmodified_gallery_dl_stores_every_visible_original(program, tmp_path):
    """Ids and md5 of all files are those of the listing: no post is missed, unusual ones included."""
    board = booru.board(SMALL)
    unusual.add_posts(board)
    with serving(board) as served:
        site = {"root": served.url, "sleep-request": 0, "sleep": 0}
        config = tmp_path / "gallery-dl.json"
        config.write_text(json.dumps({"extractor": {"Danbooru": {"loc": site}}}))
        command = [program, "--config-ignore", "-q", "-c", config, "-d", tmp_path / "files"]
        subprocess.run([*command, f"{served.url}/posts?tags="], check=True, timeout=120)
        posts = {post["id"]: post for post in every_post(served.url) if "file_url" in post}

    stored = {}
    for path in (tmp_path / "files").rglob("*.*"):
        match = re.fullmatch(r".*_(\d+)_([0-9a-f]{32})", path.stem)
        stored[int(match[1])] = path
        # For an archive of frames it stores the film that the board lists as the larger file.
        if posts[int(match[1])]["file_ext"] != "zip":
            assert match[2] == hashlib.md5(path.read_bytes()).hexdigest()
        assert match[2] == posts[int(match[1])]["md5"]

    assert len(posts) > 80
    assert set(posts) == set(stored)
