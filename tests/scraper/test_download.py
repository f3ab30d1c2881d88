"""Tests stage `download` over real HTTP from a host on loopback."""

import asyncio
import errno
import io
import json
import logging
import tarfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from personae.decisions import DECISIONS
from personae.errors import DiskRefused, MissingInput
from scraper import download, site
from scraper.client import Client
from scraper.download import IMAGES_SCHEMA
from scraper.errors import NotAuthorised, NothingStored, Unfinished
from scraper.post import Variant
from scraper.segments import Segments
from tests.scraper.download_fixture import _instant_retries, answer, fill, run

__all__ = ["_instant_retries", "run"]  # fixtures


def test_fetches_every_kept_post_once(shelf, run):
    """Every original is complete, is requested once, and has its row and its decision."""
    fill(shelf)
    run()

    assert shelf.expected() == shelf.stored()
    assert {1} == set(shelf.host.requests.values())
    assert dict.fromkeys(shelf.posts, (None, None, None)) == shelf.decisions()


def test_tables_have_their_schemas_and_parameters(shelf, run):
    """The tables have the documented columns, are sorted, and record the effective parameters."""
    fill(shelf, 5)
    run()
    images = pq.read_table(shelf.out_dir / "images.parquet")

    assert images.schema.equals(IMAGES_SCHEMA)
    assert pq.read_schema(shelf.out_dir / "decisions.parquet").equals(DECISIONS)
    assert sorted(shelf.posts) == images.column("post_id").to_pylist()
    assert None is json.loads(images.schema.metadata[b"personae.params"])["download"]["side"]
    row, post = images.to_pylist()[0], shelf.posts[100]
    assert (post.md5, "original", "png", 30, 40, post.file_bytes) == tuple(
        row[name] for name in ("md5", "variant", "file_ext", "width", "height", "file_bytes")
    )


def test_fetches_the_smallest_sufficient_variant(shelf, run):
    """With a requested side, the sufficient thumbnail is fetched and nothing larger."""
    fill(shelf, 5)
    run(side=16)

    assert shelf.expected(variant=0) == shelf.stored()
    rows = pq.read_table(shelf.out_dir / "images.parquet").to_pylist()
    assert {("180x180", "jpg", 15, 20)} == {
        (row["variant"], row["file_ext"], row["width"], row["height"]) for row in rows
    }


def test_second_run_asks_nothing_and_changes_nothing(shelf, run):
    """A second run without changes sends no request and leaves every file byte-identical."""
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


def test_refusal_of_every_image_is_an_error(shelf, run):
    """If every image is refused for good, the run ends with an error, and the table has reasons."""
    fill(shelf, 3)

    with pytest.raises(NothingStored, match=r"All 3 images were refused \(too_large 3\)"):
        run(max_bytes=1000)
    sizes = {post_id: post.file_bytes for post_id, post in shelf.posts.items()}
    assert {post: ("too_large", size, 1000) for post, size in sizes.items()} == shelf.decisions()


def test_vanished_board_is_not_believed(shelf, run):
    """If every file is gone and none was ever stored, nothing is decided; the next run asks again."""
    for number in (1, 2, 3):
        shelf.host.faults[shelf.add(number).variants[-1].url] = answer(404)
    shelf.write()
    for _ in range(3):
        with pytest.raises(Unfinished, match="3 of 3 images are left to fetch") as info:
            run()
        assert 3 == info.value.exit_code
    assert not (shelf.out_dir / "decisions.parquet").exists()

    shelf.host.faults.clear()
    run()
    assert shelf.expected() == shelf.stored()


def test_only_kept_posts_are_fetched_and_listed(shelf, run):
    """A tighter choice sends no request; a looser one requests only the newly admitted images."""
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
    """If the board replaces a file, the new bytes are fetched and recorded."""
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
    """Images of one board never replace those of another board with the same ids."""
    fill(shelf, 3)
    run(name="one")
    run(name="two")

    assert {2} == set(shelf.host.requests.values())
    assert shelf.expected() == shelf.stored()


def test_lasting_failure_leaves_the_post_for_a_later_run(shelf, run):
    """If all tries fail for one image, the rest is fetched and the run ends as unfinished."""
    fill(shelf)
    url = shelf.posts[110].variants[-1].url
    shelf.host.faults[url] = answer(503)
    with pytest.raises(Unfinished, match=r"1 of 30 images .* Run the same command again") as info:
        run()
    assert not (shelf.out_dir / "images.parquet").exists()
    assert 3 == info.value.exit_code

    del shelf.host.faults[url]
    shelf.host.requests.clear()
    run()

    assert {url: 1} == shelf.host.requests
    assert shelf.expected() == shelf.stored()


def test_tables_of_an_earlier_choice_do_not_outlive_an_unfinished_run(shelf, run):
    """While images are left to fetch, no tables exist, not even those of an earlier choice."""
    fill(shelf, 3)
    run()
    shelf.host.faults[shelf.add(200).variants[-1].url] = answer(503)
    shelf.write()
    with pytest.raises(Unfinished):
        run()

    assert not (shelf.out_dir / "images.parquet").exists()
    assert not (shelf.out_dir / "decisions.parquet").exists()


def test_dead_site_is_given_up_soon(shelf, run):
    """If several images fail one after the other, the run ends early."""
    fill(shelf, 60)
    for post in shelf.posts.values():
        shelf.host.faults[post.variants[-1].url] = answer(503)
    with pytest.raises(Unfinished, match="one after the other"):
        run(give_up_after=5, queue=4)

    assert len(shelf.host.requests) <= 5 + 4


@pytest.mark.parametrize("limit", ["refused", "challenged"])
def test_refused_client_stops_the_run_and_keeps_what_arrived(shelf, run, limit):
    """When the host refuses the client, the run ends after few requests; images are recorded."""
    fill(shelf, 60)
    headers = {"cf-mitigated": "challenge"} if limit == "challenged" else {}
    shelf.host.intercept = lambda _path, number: (
        answer(403, headers=headers) if number > 20 else None
    )
    with pytest.raises(NotAuthorised) as info:
        run(queue=2)
    asked = shelf.host.requests.total()

    assert 4 == info.value.exit_code
    # Three refusals, three probes, and what was under way or queued.
    assert asked <= 20 + 3 + 3 + 4 + 2
    shelf.host.intercept = lambda _path, _number: None
    shelf.host.requests.clear()
    run()
    assert shelf.host.requests.total() == 60 - 20
    assert shelf.expected() == shelf.stored()


def test_deadline_ends_the_run_resumably(shelf, run):
    """After the deadline no request is sent, and the next run continues."""
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
    """Ctrl-C cancels the run; the next run fetches only unrecorded images."""
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
    """Images whose segment was removed or truncated are detected and fetched again."""
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
    """If the disk fills up within an image, one clear error is raised; the next run continues."""
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
    assert info.group_contains(DiskRefused, match="no room to write.*run the same command again")
    shelf.host.requests.clear()
    run()

    assert 0 < len(shelf.host.requests) < 30
    assert shelf.expected() == shelf.stored()


def test_names_never_come_from_tags(shelf, run):
    """A post tagged `../../x` is stored under its id, and no file is written outside the folder."""
    fill(shelf, 3)
    run()

    with tarfile.open(shelf.out_dir / "segments" / "00000.tar") as tar:
        assert {"100.png", "101.png", "102.png"} == set(tar.getnames())
    names = {path.name for path in shelf.out_dir.rglob("*")}
    assert names <= {
        *("segments", "00000.tar", "images.parquet", "decisions.parquet", "ledger.sqlite")
    }


def test_tables_of_different_runs_are_refused(shelf, run):
    """A kept post that the listing lacks is an error that gives the stage to run."""
    fill(shelf, 3)
    shelf.write(kept=[100, 999])

    with pytest.raises(MissingInput, match="Run stage 'decide' again"):
        run()


def test_log_totals_equal_the_table(shelf, run, caplog):
    """The last log line counts stored and refused images, by reason."""
    fill(shelf, 6)
    shelf.host.faults[shelf.posts[101].variants[-1].url] = answer(404)
    with caplog.at_level(logging.INFO):
        run()

    assert "download: 6 posts, 5 stored; refused by reason: gone 1" == caplog.messages[-1]
