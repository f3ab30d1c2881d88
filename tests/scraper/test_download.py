"""The stage `download`, over real HTTP from a host on loopback."""

import asyncio
import errno
import io
import json
import logging
import tarfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import stamina
from aiohttp import web
from PIL import Image
from rich.console import Console

from scraper import download, site
from scraper.client import Client
from scraper.download import IMAGES_SCHEMA
from scraper.errors import DiskFull, MissingInput, NotAuthorised, Unfinished
from scraper.post import DECISIONS_SCHEMA, Variant
from scraper.progress import Progress
from scraper.segments import Segments


@pytest.fixture(autouse=True)
def _instant_retries():
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def run(shelf):
    """Runs the stage once; returns nothing, or raises what it raises."""

    async def once(*, name="board", **changes):
        extra = {key: changes.pop(key) for key in ("at", "clock", "segments") if key in changes}
        params = download.Params(**{"side": None, "workers": 4, "group": 8, **changes})
        board = replace(
            site.Site.resolve(site.Params(name=shelf.host.url)), name=name, cdn_rate=10_000.0
        )
        async with Client(board, sleep=lambda _seconds: asyncio.sleep(0)) as client:
            await download.run(
                params, client, board, shelf.listing_dir, shelf.decide_dir, shelf.out_dir, **extra
            )

    return lambda **changes: asyncio.run(once(**changes))


def fill(shelf, count=30):
    for post_id in range(100, 100 + count):
        shelf.add(post_id)
    shelf.write()


def answer(status=200, **options):
    async def handler(_request):
        return web.Response(status=status, **options)

    return handler


def test_fetches_every_kept_post_once(shelf, run):
    """Every original arrives whole, is asked for once, and has its row and its decision."""
    fill(shelf)
    run()

    assert shelf.expected() == shelf.stored()
    assert {1} == set(shelf.host.requests.values())
    assert dict.fromkeys(shelf.posts, (None, None, None)) == shelf.decisions()


def test_tables_have_their_schemas_and_parameters(shelf, run):
    """The tables have the documented columns, are sorted, and carry the effective parameters."""
    fill(shelf, 5)
    run()
    images = pq.read_table(shelf.out_dir / "images.parquet")

    assert images.schema.equals(IMAGES_SCHEMA)
    assert pq.read_schema(shelf.out_dir / "decisions.parquet").equals(DECISIONS_SCHEMA)
    assert sorted(shelf.posts) == images.column("post_id").to_pylist()
    assert None is json.loads(images.schema.metadata[b"personae.params"])["download"]["side"]
    row, post = images.to_pylist()[0], shelf.posts[100]
    assert (post.md5, "original", "png", 30, 40, post.file_bytes) == tuple(
        row[name] for name in ("md5", "variant", "file_ext", "width", "height", "file_bytes")
    )


def test_fetches_the_smallest_sufficient_variant(shelf, run):
    """With a wanted side, the thumbnail that has it is fetched and nothing larger."""
    fill(shelf, 5)
    run(side=16)

    assert shelf.expected(variant=0) == shelf.stored()
    rows = pq.read_table(shelf.out_dir / "images.parquet").to_pylist()
    assert {("180x180", "jpg", 15, 20)} == {
        (row["variant"], row["file_ext"], row["width"], row["height"]) for row in rows
    }


def test_second_run_asks_nothing_and_changes_nothing(shelf, run):
    """With nothing to do there is no request and every file stays as it is, to the byte."""
    fill(shelf)
    shelf.host.faults["/gone"] = answer(404)
    shelf.add(99, variants=(Variant("180x180", "/gone", 15, 20, "jpg"),))
    shelf.write()
    run(side=16)
    before = {path: path.read_bytes() for path in shelf.out_dir.rglob("*.[tp]ar*")}
    shelf.host.requests.clear()
    run(side=16)

    assert {} == shelf.host.requests
    assert before == {path: path.read_bytes() for path in shelf.out_dir.rglob("*.[tp]ar*")}
    assert ("gone", None, None) == shelf.decisions()[99]


def test_only_kept_posts_are_fetched_and_listed(shelf, run):
    """A tightened choice asks nothing, a loosened one only for what it admits."""
    fill(shelf, 6)
    shelf.write(kept=[100, 101, 102])
    run()
    shelf.write(kept=[101, 104])
    shelf.host.requests.clear()
    run()

    assert [shelf.posts[104].variants[-1].url] == list(shelf.host.requests)
    assert {101, 104} == set(shelf.stored())
    shelf.write(kept=[])
    shelf.host.requests.clear()
    run()
    assert ({}, {}, {}) == (shelf.stored(), shelf.decisions(), shelf.host.requests)


def test_replaced_file_is_fetched_again(shelf, run):
    """When the board replaces a file, its new bytes are fetched and the row names them."""
    fill(shelf, 3)
    run()
    file = io.BytesIO()
    Image.new("RGB", (30, 40), "red").save(file, "PNG")
    shelf.add(101, payload=file.getvalue())
    shelf.write()
    shelf.host.requests.clear()
    run()

    assert [shelf.posts[101].variants[-1].url] == list(shelf.host.requests)
    assert file.getvalue() == shelf.stored()[101]


def test_other_board_is_fetched_for_itself(shelf, run):
    """Pictures of one board never stand for those of another with the same ids."""
    fill(shelf, 3)
    run(name="one")
    run(name="two")

    assert {2} == set(shelf.host.requests.values())
    assert shelf.expected() == shelf.stored()


REFUSED = {
    "gone": (answer(404), (None, None)),
    "corrupt": (answer(body=b"\x89PNG\r\n\x1a\n"), (None, None)),
    "too_large": (answer(body=bytes(30_001)), (None, 30_000)),
    "wrong_type": (answer(body=b"<html>sorry</html>"), (None, None)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_failure_of_one_picture_is_a_decision(shelf, run, reason):
    """What concerns one picture is recorded with its reason; the others arrive."""
    fault, numbers = REFUSED[reason]
    fill(shelf, 5)
    shelf.host.faults[shelf.posts[102].variants[-1].url] = fault
    run(max_bytes=30_000)

    assert {102: (reason, *numbers)} == {
        post_id: row for post_id, row in shelf.decisions().items() if row[0]
    }
    assert set(shelf.posts) - {102} == set(shelf.stored())


def test_wrong_checksum_is_a_decision(shelf, run):
    """An original whose bytes are not those of the listed md5 is refused."""
    shelf.add(1, md5="0" * 32)
    shelf.write()
    run()

    assert "wrong_md5" == shelf.decisions()[1][0]
    assert {} == shelf.stored()


def test_foreign_host_is_a_decision(shelf, run):
    """A file on a host that is not on the list is refused, and that host is never asked."""
    shelf.add(1, variants=(Variant("180x180", "http://127.0.0.1:9/x.jpg", 15, 20, "jpg"),))
    shelf.write()
    run(side=16)

    assert ("foreign_host", None, None) == shelf.decisions()[1]


def test_post_without_a_still_picture_is_refused_without_a_request(shelf, run):
    """Where every variant moves, there is nothing to ask for."""
    post = shelf.add(1)
    film = Variant("original", "/film.mp4", 30, 40, "mp4")
    shelf.posts[1] = replace(post, variants=(film,))
    shelf.write()
    run()

    assert ("wrong_type", None, None) == shelf.decisions()[1]
    assert {} == shelf.host.requests


def test_too_many_pixels_are_refused_before_decoding(shelf, run):
    """The pixel cap is checked in the header."""
    fill(shelf, 1)
    run(max_pixels=1199)

    assert ("too_large", 1200, 1199) == shelf.decisions()[100]


def test_refused_pictures_are_asked_again_on_demand(shelf, run):
    """A refusal lasts until it is questioned."""
    fill(shelf, 2)
    url = shelf.posts[101].variants[-1].url
    shelf.host.faults[url] = answer(404)
    run()
    del shelf.host.faults[url]
    run()
    assert "gone" == shelf.decisions()[101][0]
    run(retry_refused=True)

    assert shelf.expected() == shelf.stored()


def test_lasting_failure_leaves_the_post_for_a_later_run(shelf, run):
    """When tries run out for one picture, the rest is fetched, and the run says it is unfinished."""
    fill(shelf)
    url = shelf.posts[110].variants[-1].url
    shelf.host.faults[url] = answer(503)
    with pytest.raises(Unfinished, match=r"1 of 30 pictures .* run the same command again") as info:
        run()
    assert not (shelf.out_dir / "images.parquet").exists()
    assert 3 == info.value.exit_code

    del shelf.host.faults[url]
    shelf.host.requests.clear()
    run()

    assert {url: 1} == shelf.host.requests
    assert shelf.expected() == shelf.stored()


def test_tables_of_an_earlier_choice_do_not_outlive_an_unfinished_run(shelf, run):
    """Present means complete: while something is left to fetch, there are no tables."""
    fill(shelf, 3)
    run()
    shelf.host.faults[shelf.add(200).variants[-1].url] = answer(503)
    shelf.write()
    with pytest.raises(Unfinished):
        run()

    assert not (shelf.out_dir / "images.parquet").exists()
    assert not (shelf.out_dir / "decisions.parquet").exists()


def test_dead_site_is_given_up_soon(shelf, run):
    """When pictures fail one after the other, the run ends instead of asking for all."""
    fill(shelf, 60)
    for post in shelf.posts.values():
        shelf.host.faults[post.variants[-1].url] = answer(503)
    with pytest.raises(Unfinished, match="one after the other"):
        run(give_up_after=5, queue=4)

    assert len(shelf.host.requests) <= 5 + 4


def test_refused_client_stops_the_run_and_keeps_what_arrived(shelf, run):
    """A 403 is the board's word: no further picture is asked for, what arrived is recorded."""
    fill(shelf, 60)
    shelf.host.faults[shelf.posts[120].variants[-1].url] = answer(403)
    with pytest.raises(NotAuthorised) as info:
        run(queue=2)
    asked = len(shelf.host.requests)

    assert 4 == info.value.exit_code
    assert asked <= 21 + 4 + 2
    shelf.host.faults.clear()
    shelf.host.requests.clear()
    run()
    assert len(shelf.host.requests) == 60 - (asked - 1)
    assert shelf.expected() == shelf.stored()


def test_deadline_ends_the_run_resumably(shelf, run):
    """After the deadline nothing more is asked for, and the next run goes on."""
    fill(shelf)
    ticks = iter(range(10_000))
    with pytest.raises(Unfinished, match="deadline of 10 s"):
        run(deadline_seconds=10, clock=lambda: next(ticks), queue=1, workers=1, group=1)
    asked = len(shelf.host.requests)
    run()

    assert 0 < asked < 30
    assert {1} == set(shelf.host.requests.values())
    assert shelf.expected() == shelf.stored()


def test_failure_between_sync_and_record_loses_nothing(shelf, run):
    """Bytes that were synced but not recorded are cut off and fetched again."""
    fill(shelf)
    seen = []

    def fail(step):
        seen.append(step)
        if step == "recorded" and seen.count("recorded") == 2:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as info:
        run(at=fail)
    assert info.group_contains(ZeroDivisionError)
    shelf.host.requests.clear()
    run()

    assert 0 < len(shelf.host.requests) < 30
    assert shelf.expected() == shelf.stored()


def test_cancelled_run_resumes(shelf, run):
    """Ctrl-C cancels the run from outside; the next one fetches only what was not recorded."""
    fill(shelf, 40)

    async def cancel_soon():
        params = download.Params(side=None, workers=2, queue=2, group=4)
        board = replace(site.Site.resolve(site.Params(name=shelf.host.url)), name="board")
        async with Client(board) as client:
            task = asyncio.ensure_future(
                download.run(
                    params, client, board, shelf.listing_dir, shelf.decide_dir, shelf.out_dir
                )
            )
            await asyncio.to_thread(shelf.host.wait_for, 15)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel_soon())
    first = len(shelf.host.requests)
    run()

    repeated = sum(shelf.host.requests.values()) - 40
    assert 15 <= first < 40
    assert repeated <= 2 + 2 + 4
    assert shelf.expected() == shelf.stored()


def test_lost_segment_is_fetched_again(shelf, run):
    """Pictures whose segment was removed or cut are noticed and fetched again."""
    fill(shelf)
    run(segment_bytes=20_480)
    paths = sorted((shelf.out_dir / "segments").iterdir())
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    shelf.host.requests.clear()
    run(segment_bytes=20_480)

    assert 0 < len(shelf.host.requests) < 30
    assert shelf.expected() == shelf.stored()


def test_full_disk_is_clear_and_resumable(shelf, run):
    """Out of room in the middle of a picture: one clear error, and the next run goes on."""
    fill(shelf)

    class Full:
        def __init__(self, path):
            self.file = path.open("r+b" if path.exists() else "x+b", buffering=0)

        def write(self, data):
            if self.file.tell() + len(data) > 40_000:
                self.file.write(data[: 40_000 - self.file.tell()])
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    segments = Segments(shelf.out_dir / "segments", segment_bytes=2**20, open_file=Full)
    with pytest.raises(ExceptionGroup) as info:
        run(segments=segments)
    assert info.group_contains(DiskFull, match="no room to write.*run the same command again")
    shelf.host.requests.clear()
    run()

    assert 0 < len(shelf.host.requests) < 30
    assert shelf.expected() == shelf.stored()


def test_names_never_come_from_tags(shelf, run):
    """A post tagged `../../x` lies under its id, and nothing lies outside the folder."""
    fill(shelf, 3)
    run()

    with tarfile.open(shelf.out_dir / "segments" / "00000.tar") as tar:
        assert {"100.png", "101.png", "102.png"} == set(tar.getnames())
    names = {path.name for path in shelf.out_dir.rglob("*")}
    assert names <= {
        *("segments", "00000.tar", "images.parquet", "decisions.parquet", "ledger.sqlite")
    }


def test_tables_of_different_runs_are_refused(shelf, run):
    """A kept post that the listing does not know is an error that names the stage to run."""
    fill(shelf, 3)
    shelf.write(kept=[100, 999])

    with pytest.raises(MissingInput, match="Run stage 'decide' again"):
        run()


def test_log_totals_equal_the_table(shelf, run, caplog):
    """The last line counts what is stored and what was refused, by reason."""
    fill(shelf, 6)
    shelf.host.faults[shelf.posts[101].variants[-1].url] = answer(404)
    with caplog.at_level(logging.INFO):
        run()

    assert "download: 6 posts, 5 stored; refused by reason: gone 1" == caplog.messages[-1]


def test_progress_shows_rate_time_left_and_counts():
    """A bar on a terminal, and a line every few seconds elsewhere, with counts by reason."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress("download", 4, console=terminal) as progress:
        for outcome in ("stored", "stored", "gone"):
            progress.advance(outcome)

    shown = terminal.file.getvalue()
    assert all(text in shown for text in ("3/4", "/s", "stored 2, gone 1"))


def test_progress_without_a_terminal_is_a_line_now_and_then(caplog):
    """Elsewhere a line appears at a fixed interval, not at every picture."""
    now = [0.0]
    plain = Console(file=io.StringIO(), force_terminal=False)
    with (
        caplog.at_level(logging.INFO),
        Progress("download", 40, console=plain, clock=lambda: now[0]) as progress,
    ):
        for _ in range(20):
            now[0] += 0.5
            progress.advance("stored")

    assert [
        "download: 10 of 40, 2.0/s, 15 s left (stored 10)",
        "download: 20 of 40, 2.0/s, 10 s left (stored 20)",
    ] == caplog.messages
    assert "" == plain.file.getvalue()
