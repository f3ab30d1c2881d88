"""Tests the source for a Danbooru-style board: searches that time out in its database."""

import pytest

from scraper.errors import QueryTimedOut
from scraper.sources.danbooru import Danbooru


@pytest.mark.asyncio
async def test_search_that_times_out_is_narrowed():
    """After a database timeout, the page size of that search shrinks and stays small."""
    sizes = []

    class Slow:
        async def get_json(self, _path, params=None):
            sizes.append(params["limit"])
            if params["limit"] > 50:
                raise QueryTimedOut("slow")
            return []

    source = Danbooru(Slow(), "http://board")
    await source.page("rin", before=None, size=200)
    await source.page("rin", before=None, size=200)
    await source.page("mai", before=None, size=20)

    assert [200, 50, 50, 20] == sizes


@pytest.mark.asyncio
async def test_search_that_always_times_out_is_given_up():
    """After two smaller pages time out as well, the query fails."""
    sizes = []

    class Stuck:
        async def get_json(self, _path, params=None):
            sizes.append(params["limit"])
            raise QueryTimedOut("slow")

    with pytest.raises(QueryTimedOut):
        await Danbooru(Stuck(), "http://board").page("rin", before=None, size=200)

    assert [200, 50, 12] == sizes
