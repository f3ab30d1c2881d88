"""Fixtures of the demo board, and a client that is none of ours."""

import pytest
import requests

from scraper.demo.fixture import demo_board, own_demo_board

__all__ = ["demo_board", "own_demo_board"]


@pytest.fixture
def get(demo_board):
    """GET from the shared board, by `requests` under an honest name."""
    with requests.Session() as session:
        session.headers["User-Agent"] = "personae-tests/1 (+https://example.org)"

        def ask(path, **params):
            headers = params.pop("headers", None)
            url = path if path.startswith("http") else demo_board.url + path
            return session.get(url, params=params, headers=headers, timeout=120)

        yield ask
