"""Fixtures of the demo board, and an HTTP client independent of the scraper."""

import pytest
import requests

# An environment installed before the entry point existed has no plugin; this import replaces it.
from scraper.demo.fixture import demo_board, own_demo_board

__all__ = ["demo_board", "own_demo_board"]


@pytest.fixture
def get(demo_board):
    """Requests a path of the shared board with `requests` and a valid User-Agent."""
    with requests.Session() as session:
        session.headers["User-Agent"] = "personae-tests/1 (+https://example.org)"

        def request(path, **params):
            headers = params.pop("headers", None)
            url = path if path.startswith("http") else demo_board.url + path
            return session.get(url, params=params, headers=headers, timeout=120)

        yield request
