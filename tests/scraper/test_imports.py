"""Folders that other programs wrote: Hugging Face `datasets`, WebDataset and gallery-dl."""

import asyncio
import contextlib
import io
import resource
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from personae.errors import PersonaeError
from scraper.__main__ import main
from scraper.errors import BadFolder
from scraper.sources.folder import Folder
from tests.scraper.imports_fixture import (
    NAMES,
    archive,
    danbooru,
    downloaded,
    encoded,
    on_the_hub,
    saved_to_disk,
    table,
)

SPLITS = {"train": [0, 1, 2, 3, 4], "validation": [6, 7, 8], "test": [10]}


def _posts(root):
    """Returns every post of a folder once, with the bytes of its image; None for a hidden one."""

    async def walked():
        source, posts = Folder(root), {}
        async for tag in source.candidates(1):
            before = None
            while (page := await source.page(tag.name, before=before, size=3)).posts:
                before = page.cursor
                for post in page.posts:
                    url = post.variants[0].url if post.variants else None
                    content = await source.get_bytes(url, max_bytes=10**6) if url else None
                    posts[post.post_id] = (post, content)
        return list(posts.values())

    return asyncio.run(walked())


def _facts(root):
    return sorted((post.given_split, post.given_label, content) for post, content in _posts(root))


def _expected(splits):
    given = {"validation": "val"}
    return sorted(
        (given.get(split, split), NAMES[number % 3], encoded(number))
        for split, numbers in splits.items()
        for number in numbers
    )


@pytest.mark.parametrize("write", [saved_to_disk, on_the_hub])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_data_set_of_hugging_face_comes_in_equal(tmp_path, write, rows):
    """Labels by name, splits and the very bytes, whatever the size of batches and row groups."""
    root = write(tmp_path / "data", SPLITS, rows=rows)

    assert _expected(SPLITS) == _facts(root)


def test_stale_arrow_files_are_left_out(tmp_path):
    """Only the files that `state.json` lists belong to the data set."""
    root = saved_to_disk(tmp_path / "data", SPLITS)
    stale = root / "train" / "data-00000-of-00001.arrow"
    (root / "train" / "cache-1234.arrow").write_bytes(stale.read_bytes())

    assert _expected(SPLITS) == _facts(root)


def test_other_columns_of_hugging_face(tmp_path):
    """Labels may be texts, images plain bytes; a coarse label is the family, and -1 is no label."""
    (tmp_path / "a").mkdir()
    plain = pa.table({"img": [encoded(0), encoded(1)], "label": ["tin can", "x" * 300]})
    pq.write_table(plain, tmp_path / "a" / "part.parquet")
    (tmp_path / "b").mkdir()
    coarse = pa.table(
        {"img": [encoded(0), encoded(1)], "fine_label": [4, -1], "coarse_label": ["up", "down"]}
    )
    pq.write_table(coarse, tmp_path / "b" / "train.parquet")

    assert [None, "tin can"] == [p.given_label for p, _ in _sorted(tmp_path / "a")]
    posts = [post for post, _ in _sorted(tmp_path / "b")]
    assert [("-1", ("down",)), ("4", ("up",))] == [
        (post.given_label, post.tags_copyright) for post in posts
    ]


def _sorted(root):
    return sorted(_posts(root), key=lambda entry: entry[0].given_label or "")


def test_rows_without_bytes_are_listed_without_a_file(tmp_path):
    """A row whose image is a path has no file: no path of a row is followed."""
    content = table([0, 1])
    image = pa.array([{"bytes": None, "path": "/etc/passwd"}, {"bytes": encoded(1), "path": None}])
    content = content.set_column(0, "image", image.cast(content.schema.field("image").type))
    pq.write_table(content, tmp_path / "train.parquet")

    assert [(True, None), (False, encoded(1))] == sorted(
        ((post.md5 is None, content) for post, content in _posts(tmp_path)), reverse=True
    )


def test_image_that_many_rows_share_takes_little_memory(tmp_path):
    """A small table may repeat a large value in every row; it is held once, and in no row."""
    rows = 20_000
    index = pa.array(np.zeros(rows, dtype=np.int32))
    image = pa.DictionaryArray.from_arrays(index, pa.array([b"x" * 100_000], pa.binary()))
    text = pa.DictionaryArray.from_arrays(index, pa.array(["y" * 100_000]))
    content = pa.table({"image": image, "label": text, "fine_label": index})
    pq.write_table(content.drop("label"), tmp_path / "a.parquet", store_schema=False)
    (tmp_path / "long").mkdir()
    pq.write_table(content, tmp_path / "long" / "b.parquet", store_schema=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = Folder(tmp_path)
    page = asyncio.run(source.page("0_label", before=None, size=3))

    assert [100_000] * 3 == [post.file_bytes for post in page.posts]
    assert rows == len(source._posts["no_label"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_webdataset_of_its_own_library(tmp_path):
    """Numbers by classnames.txt, names in JSON, text in .txt; the split is in the archive's name."""
    archive(
        tmp_path / "train-0000.tar",
        {
            "a/0": {"png": encoded(0), "cls": 0},
            "a/1": {"jpg": encoded(1, "JPEG"), "cls": 2, "json": {"label": "named", "cls": 1}},
            "b.c/2": {"input.webp": encoded(2, "WEBP"), "mask.png": encoded(3), "cls": 1},
        },
    )
    captioned = {"png": encoded(6), "txt": "a caption", "json": {"label": "named"}}  # img2dataset
    archive(
        tmp_path / "dev" / "0.tar", {"3": {"png": encoded(4), "txt": "tin can\n"}, "5": captioned}
    )
    archive(tmp_path / "rest.tar", {"4": {"png": encoded(5), "json": {"split": "test", "cls": 9}}})
    (tmp_path / "classnames.txt").write_text("zero\none\ntwo\n")
    (tmp_path / "README.md").write_text("not listed")

    facts = {(post.given_split, post.given_label, content) for post, content in _posts(tmp_path)}
    assert {
        ("train", "zero", encoded(0)),
        ("train", "named", encoded(1, "JPEG")),
        ("train", "one", encoded(2, "WEBP")),
        ("train", None, encoded(3)),
        ("val", "tin can", encoded(4)),
        ("val", "named", encoded(6)),
        ("test", "9", encoded(5)),
    } == facts


def test_loose_images_go_before_archives(tmp_path, caplog):
    """A folder of labels with an archive beside stays one, and a warning says so."""
    archive(tmp_path / "backup.tar", {"0": {"png": encoded(0), "cls": 0}})
    downloaded(tmp_path / "ann" / "1.png", 1)

    assert [None, "ann"] == [post.given_label for post, _ in _sorted(tmp_path)]
    assert "ann/1.png, so that its .tar files are no images" in caplog.text


def test_names_in_an_archive_are_no_paths(tmp_path):
    """Members called ../x and /x are read from the archive; links and devices are left out."""
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name, kind in (("../x.png", None), ("/etc/y.png", None), ("z.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            content = encoded(1) if kind is None else b""
            member.size = len(content)
            if kind:
                member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))
            label = tarfile.TarInfo(name.replace("png", "cls"))
            label.size = 1
            tar.addfile(label, io.BytesIO(b"7"))

    assert [("7", encoded(1))] * 2 == [(p.given_label, content) for p, content in _posts(tmp_path)]


ONE = {"0": {"cls": 0, "png": encoded(0)}}
PATHS = [{"bytes": None, "path": "/x"}]


def _cut(root):
    path = archive(root / "a.tar", ONE)
    path.write_bytes(path.read_bytes()[:1600])


def _link(root):
    archive(root.parent / "out.tar", ONE)
    (root / "a.tar").symlink_to(root.parent / "out.tar")


def _named_by_numbers(root):
    archive(root / "a.tar", ONE)
    (root / "classes.json").write_text('{"labels": [1]}')


def _compressed(root):
    saved_to_disk(root, {"train": [0]}, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def _paths(root):
    rows = table([0])
    rows = rows.set_column(0, "image", pa.array(PATHS, rows.schema.types[0]))
    with pa.ipc.new_stream(str(root / "a.arrow"), rows.schema) as writer:
        writer.write_table(rows)


def _columns(**columns):
    return lambda root: pq.write_table(pa.table(columns), root / "a.parquet")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_cut, "damaged or cut short"),
        (lambda root: (root / "a.tar").write_bytes(b"x" * 5000), "damaged or cut short"),
        (lambda root: (root / "a.tar").touch(), "damaged or cut short"),
        (_named_by_numbers, "holds no list of labels"),
        (_link, "no plain file in"),
        (lambda root: (root / "a.parquet").write_bytes(b"PAR1" * 50), "damaged or cut short"),
        (_columns(label=[1], image=["a.png"]), "no column of encoded images"),
        (_columns(text=["a"], image=[b"x"]), "no column `label`"),
        (_columns(label=[[1]], image=[b"x"]), "neither a number nor a text"),
        (_compressed, r"is compressed.*to_parquet"),
        (_paths, r"paths instead of encoded images.*to_parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, write, message):
    """A damaged file, or one without images or labels, is an error that says what to do."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")

    with pytest.raises(BadFolder, match=message):
        Folder(tmp_path / "data")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Returns name and bytes of a file of each kind."""
    root = tmp_path_factory.mktemp("packed")
    paths = [
        archive(root / "a.tar", {str(n): {"png": encoded(n), "cls": n} for n in range(2)}),
        next(saved_to_disk(root / "disk", {"train": [0, 1]}).rglob("*.arrow")),
        next(on_the_hub(root / "hub", {"train": [0, 1]}).rglob("*.parquet")),
    ]
    return [(path.name, path.read_bytes()) for path in paths]


@settings(max_examples=25)
@given(st.integers(0, 2), st.integers(0, 2**20), st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(packed, tmp_path_factory, kind, position, value):
    """With one byte changed, a file of two images gives two at most, or an error of ours."""
    root = tmp_path_factory.mktemp("changed")
    name, content = packed[kind]
    position %= len(content)
    (root / name).write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
    posts = []
    with contextlib.suppress(PersonaeError):
        posts = _posts(root)

    assert len(posts) <= 2
    assert all(len(image or b"") < len(content) for _, image in posts)


def test_download_of_gallery_dl_is_a_board(tmp_path, monkeypatch):
    """Character tags decide the label, the board's rules apply, and tags, rating and source stay."""
    root = tmp_path / "danbooru" / "some search"
    for number in range(4):
        downloaded(root / f"danbooru_{number}.png", number, **danbooru(number, "ann_(x)"))
    downloaded(root / "two.png", 5, **danbooru(5, "ann_(x) bea"))
    downloaded(root / "hot.png", 6, **danbooru(6, "bea", rating="e", parent_id=5))
    downloaded(root / "gone.png", 7, **danbooru(7, "bea", is_deleted=True))
    downloaded(root / "bare.png", 8)
    posts = {post.tags_character: post for post, _ in _posts(tmp_path)}

    assert {("ann_(x)",), ("ann_(x)", "bea"), ("bea",), ()} == set(posts)
    two = posts["ann_(x)", "bea"]
    assert ("g", 7, "https://artist.example/5") == (two.rating, two.score, two.source)
    assert ("someone",) == two.tags_artist
    assert "2024-05-01T14:00:00.123000+00:00" == two.created_at_utc.isoformat()
    assert {"danbooru 5"} == {
        post.given_group for post, _ in _posts(tmp_path) if post.tags_character[-1:] == ("bea",)
    } - {"danbooru 7"}
    monkeypatch.chdir(tmp_path)
    params = {
        "site": {"name": "folder", "folder": str(tmp_path / "danbooru")},
        "personae": {"min_images": 1},
        "decide": {"min_side": 0},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in ("listing", "decide"):
        assert 0 == main([stage, "--data", "data"])
    refused = pq.read_table("data/decide/decisions.parquet").filter(~pc.field("kept"))
    assert 4 == pq.read_metadata("data/decide/kept.parquet").num_rows
    assert {"two_personas", "rating", "deleted", "no_persona", "not_solo", "person_count"} == set(
        refused["reason"].to_pylist()
    )


def test_sites_without_kinds_of_tags_have_labels_by_folder(tmp_path):
    """Of a site that does not sort its tags, the folder of a file is the label; s means safe."""
    downloaded(tmp_path / "pixiv" / "12 ann" / "1.png", 1, category="pixiv", tags=["blue hair", 3])
    downloaded(tmp_path / "moe" / "bea" / "2.png", 2, category="yandere", rating="s", tags="a b")
    downloaded(
        tmp_path / "e621" / "x" / "3.png",
        3,
        category="e621",
        rating="odd",
        tags={"character": ["cem"], "general": ["a"]},
    )
    posts = {post.given_label: post for post, _ in _posts(tmp_path)}

    assert {"12 ann", "bea", None} == set(posts)
    assert ("blue_hair",) == posts["12 ann"].tags_general
    assert ("g", ("a", "b")) == (posts["bea"].rating, posts["bea"].tags_general)
    assert ("e", ("cem",)) == (posts[None].rating, posts[None].tags_character)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[1]",
        '{"category": 1, "tags": {"character": 3}, "rating": [], "id": true}',
        '{"category": "a\\ud800", "tag_string_character": "\\ud800 \\u0007 ok", "source": "\\ud800"}',
        '{"category": "a", "created_at": "9999-12-31T23:59:59-23:00", "tags_character": ['
        + '"x",' * 5000
        + '"y"]}',
        " " * (2**20 + 1),
    ],
)
def test_any_metadata_is_read_or_ignored(tmp_path, content):
    """Metadata from strangers may be anything; the file itself stays a post."""
    downloaded(tmp_path / "ann" / "1.png", 1, **danbooru(1, "ann"))
    downloaded(tmp_path / "ann" / "2.png", 2)
    (tmp_path / "ann" / "2.png.json").write_text(content)

    assert 2 == len(_posts(tmp_path))
