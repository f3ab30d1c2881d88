"""Tests the layouts of image folders: recognised by their structure, hostile content refused."""

import contextlib
import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import MissingColumn, MissingInput, PersonaeError
from scraper.errors import BadFolder
from scraper.sources.layout import read as layout
from scraper.sources.layout.images import LabelledImage, Mosaic
from tests.scraper.folder_fixture import LABELS, by_label, indexed, mosaics, save


def test_one_folder_a_label(tmp_path):
    """Every file below `LABEL/`, at any depth, has the label; hidden files and folders are left out."""
    by_label(tmp_path)
    (tmp_path / "plain" / "notes.txt").write_text("no image")
    save(tmp_path / ".thumbnails" / "a.png", 0)
    save(tmp_path / "plain" / ".thumbnails" / "a.png", 0)
    save(tmp_path / "plain" / "artist" / "2024" / "a.png", 0)
    (tmp_path / "plain" / "linked").symlink_to(tmp_path / "plain" / "artist")
    (tmp_path / "loose.png").write_bytes(b"")
    (tmp_path / ".hidden.png").write_bytes(b"")
    listed = layout.read(tmp_path).images

    assert set(LABELS) | {None} == {image.label for image in listed}
    assert {None} == {image.split for image in listed}
    assert LabelledImage("plain/0 #1%.png", "plain") in listed
    assert {"plain/notes.txt", "plain/artist/2024/a.png", "plain/linked", "loose.png"} == {
        image.path for image in listed if "#" not in image.path
    }
    assert ["loose.png"] == [image.path for image in listed if image.label is None]


def test_split_above_label(tmp_path):
    """`{train,val,test}/LABEL/*` gives the split; a label may be in all of them."""
    by_label(tmp_path, top=("train", "test"))
    listed = layout.read(tmp_path).images

    assert {(split, label) for split in ("train", "test") for label in LABELS} == {
        (image.split, image.label) for image in listed
    }


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Train", "valid", "Test"), ("training", "validation", "testing")],
)
def test_splits_have_the_names_of_other_tools(tmp_path, names):
    """Splits are recognised as Kaggle, torchvision and Hugging Face name them, in any case."""
    by_label(tmp_path, top=names)
    (tmp_path / "logs" / "empty").mkdir(parents=True)
    save(tmp_path / names[0] / "loose.png", 0)
    listed = layout.read(tmp_path).images

    assert {(name, split) for name, split in zip(names, ("train", "val", "test"), strict=True)} == {
        (image.path.partition("/")[0], image.split) for image in listed
    }
    assert [LabelledImage(f"{names[0]}/loose.png", None, "train")] == [
        image for image in listed if image.label is None
    ]


def test_a_folder_beside_the_splits_that_holds_files_is_an_error(tmp_path):
    """Files beside train and test belong to no split: the error names folder and first file."""
    by_label(tmp_path, top=("train", "test"))
    save(tmp_path / "examples" / "more" / "a.png", 0)

    with pytest.raises(BadFolder, match=r"examples lies beside .* \(1, such as 'more/a.png'\)"):
        layout.read(tmp_path)


def test_labels_called_as_splits(tmp_path):
    """Folders named train and test that hold images, not labels, are labels."""
    save(tmp_path / "train" / "a.png", 0)
    save(tmp_path / "test" / "a.png", 1)

    assert {("train", None), ("test", None)} == {
        (image.label, image.split) for image in layout.read(tmp_path).images
    }


def test_index_in_csv(tmp_path):
    """The rows of index.csv override the folder names; empty cells are absent values."""
    rows = [("./a/b.png", "x", "train", "g", "f"), ("c.png", "y", "", "", "")]
    found = layout.read(indexed(tmp_path, rows)).images

    assert (LabelledImage("a/b.png", "x", "train", "g", "f"), LabelledImage("c.png", "y")) == found


def test_files_that_an_index_does_not_name_are_counted(tmp_path, caplog):
    """They are left out with a warning; tables, texts and hidden files are not counted."""
    for name in ("a.png", "b.png", "sub/c.gif", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "README.md").write_text("no image")
    (tmp_path / "linked").symlink_to("sub")
    listed = layout.read(indexed(tmp_path, [("a.png", "x")], ("path", "label"))).images

    assert ["a.png"] == [image.path for image in listed]
    assert "index.csv does not name 2 files of its folder (b.png, sub/c.gif)" in caplog.text
    caplog.clear()
    layout.read(
        indexed(
            tmp_path,
            [("a.png", "x"), ("b.png", "x"), ("sub/c.gif", "x")],
            ("path", "label"),
        )
    )
    assert not caplog.text


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["dog ", "Dog", "dog", "cat"], "'Dog', 'dog', 'dog '"),
        (["hot dog", "hotdog"], "'hot dog', 'hotdog'"),
        (["caf\u00e9", "cafe\u0301"], "'cafe\u0301', 'caf\u00e9'"),
        (["dog ", "cat", "owl "], "2 labels with a space at an end, such as 'dog '."),
        (
            [letter for each in "abcd" for letter in (each, each.upper())],
            "'A', 'a'; 'B', 'b'; 'C', 'c'; …",
        ),
        (["dog", "dogs", "dog_2"], ""),
    ],
)
def test_labels_that_a_reader_takes_for_one_are_named(tmp_path, caplog, labels, named):
    """They stay separate, with a warning; so is a label with a space at an end."""
    for label in labels:
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").touch()
    images = layout.read(tmp_path).images

    assert sorted(labels) == [image.label for image in images]
    assert bool(named) is bool(caplog.text)
    assert named in caplog.text


def test_row_with_more_fields_than_the_header_is_named(tmp_path):
    """A field without a column would be lost; empty ones, as spreadsheets write them, may stand."""
    rows = [("a.png", "x", "", ""), ("b.png", "x", "", "train")]
    assert 1 == len(layout.read(indexed(tmp_path, rows[:1], ("path", "label"))).images)
    with pytest.raises(BadFolder, match=r"index\.csv, line 3, has more fields than the header"):
        layout.read(indexed(tmp_path, rows, ("path", "label")))


@pytest.mark.parametrize(("column", "value"), [("rating", "safe"), ("artist", "a\n\nb")])
def test_a_wrong_artist_or_rating_is_named(tmp_path, column, value):
    """An artist that cannot be a tag, or an unknown rating, is an error with the line."""
    with pytest.raises(BadFolder, match=rf"index\.csv, line \d, has (the )?{column}"):
        layout.read(indexed(tmp_path, [("a.png", "x", value)], ("path", "label", column)))


def test_index_of_mosaics(tmp_path):
    """Tiles are listed in order, each with its label, its split and its coarse label as family."""
    mosaics(tmp_path, {"one.webp": ("train", [0, 2, 2]), "two.png": ("test", [1])})
    found = layout.read(tmp_path)

    assert {"one.webp": Mosaic(2, 3, 4), "two.png": Mosaic(2, 3, 4)} == found.mosaics
    assert (
        LabelledImage("one.webp", "Mr. Mime", "train", None, "Mimes", 0),
        LabelledImage("one.webp", "plain", "train", None, "Others", 1),
        LabelledImage("one.webp", "plain", "train", None, "Others", 2),
        LabelledImage("two.png", "Élan", "test", None, "Others", 0),
    ) == found.images


def test_mosaics_without_coarse_labels(tmp_path):
    """Without coarse labels, no image has a family."""
    mosaics(tmp_path, {"one.png": ("train", [0])}, coarse_names=[], coarse_of_fine=[])

    assert [None] == [image.family for image in layout.read(tmp_path).images]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("../out.png", "x"), "does not leave it"),
        (("a/../../out.png", "x"), "does not leave it"),
        (("/etc/passwd.png", "x"), "does not leave it"),
        (("", "x"), "does not leave it"),
        (("a\tb.png", "x"), "does not leave it"),
        ((".", "x"), "Name a file"),
        (("a.png", ""), "has the label ''"),
        (("a.png", "  "), "has the label ''"),
        (("a.png", "x\ny"), "printable"),
        (("a.png", "x" * 201), "1 to 200"),
        (("a.png",), "has the label None"),
        (("a.png", "x", "holdout"), "Write train, val, test or nothing"),
        (("C:\\images\\a.png", "x"), "has the absolute path"),
        (("..\\a.png", "x"), "does not leave it"),
        ((".\\first.png", "x"), "which line 2 has named already"),
        (("a.png", "x", "train", "\x07"), "has the group"),
        (("a.png", "x", "train", "", "\x07"), "has the family"),
        (("first.png", "y"), "which line 2 has named already"),
        (("./first.png", "x"), "which line 2 has named already"),
        (("a.png", '"'), None),
    ],
)
def test_a_wrong_row_names_its_line(tmp_path, row, said):
    """A bad path, a repeated path, an odd label and an unknown split are errors with the line."""
    indexed(tmp_path, [("first.png", "x"), row])
    if said is None:
        assert 2 == len(layout.read(tmp_path).images)
        return

    with pytest.raises(BadFolder, match=said) as caught:
        layout.read(tmp_path)
    assert "index.csv, line " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"path,label\n\xff.png,x\n", BadFolder),
        (b'path,label\n"a.png,x\n', BadFolder),
        (b"path,label\n" + b"a" * 200_000 + b",x\n", BadFolder),
        (b"path,species\na.png,x\n", MissingColumn),
        (b"", MissingColumn),
        (b"path,label\n", MissingInput),
    ],
)
def test_a_damaged_csv_is_named(tmp_path, content, error):
    """A file that is not CSV in UTF-8, or lacks columns or rows, gives the expected error."""
    (tmp_path / "index.csv").write_bytes(content)

    with pytest.raises(error):
        layout.read(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    """A byte order mark at the start of index.csv, as spreadsheets write it, is ignored."""
    (tmp_path / "index.csv").write_bytes(b"\xef\xbb\xbfpath,label\na.png,x\n")

    assert (LabelledImage("a.png", "x"),) == layout.read(tmp_path).images


INDEX = "path,label,split\nimages/a.png,Zoë,Validation\nimages/b.png,x,\n"


@pytest.mark.parametrize(
    "content",
    [
        INDEX.encode(),
        INDEX.replace(",", ";").encode(),
        INDEX.replace(",", "\t").encode(),
        INDEX.encode("utf-16"),
        INDEX.replace("\n", "\r\n").encode("utf-8-sig"),
        INDEX.replace("path,label,split", "Path, Label ,SPLIT").encode(),
        INDEX.replace("images/", "images\\").encode(),
        INDEX.replace("images/", "ROOT/images/").encode(),
        INDEX.replace(",", ", ").encode(),
    ],
)
def test_an_index_of_a_spreadsheet_is_read(tmp_path, content):
    """Delimiters, spaces, encodings, capitals, backslashes and absolute paths give the same images."""
    save(tmp_path / "images" / "a.png", 0)
    save(tmp_path / "images" / "b.png", 1)
    (tmp_path / "index.csv").write_bytes(content.replace(b"ROOT", os.fsencode(tmp_path)))

    assert (
        LabelledImage("images/a.png", "Zoë", "val"),
        LabelledImage("images/b.png", "x"),
    ) == layout.read(tmp_path).images


def test_accents_of_an_index_are_those_of_the_disk(tmp_path):
    """A name that the disk holds with decomposed letters is read from an index with composed ones."""
    on_disk = unicodedata.normalize("NFD", "é.png")
    save(tmp_path / on_disk, 0)
    (tmp_path / "index.csv").write_text("path,label\né.png,x\n", encoding="utf-8")

    assert (LabelledImage(on_disk, "x"),) == layout.read(tmp_path).images


def test_another_encoding_is_named_with_its_line(tmp_path):
    """An index in Latin-1 is an error that names the line and says how to save it."""
    (tmp_path / "index.csv").write_bytes(INDEX.encode("latin-1"))

    with pytest.raises(BadFolder, match=r"line 2, is not in UTF-8 .* Save it as CSV in UTF-8"):
        layout.read(tmp_path)


def _sheet(**changes):
    return {"sheet": "a.png", "rows": 2, "columns": 2, "tile": 4, "fine": [0, 1]} | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": [_sheet(sheet="../a.png")]}, "does not leave it"),
        ({"train": [_sheet(sheet="/a.png")]}, "does not leave it"),
        ({"train": [_sheet(), _sheet()]}, "stands there twice"),
        ({"train": [_sheet()], "test": [_sheet()]}, "stands there twice"),
        ({"train": [_sheet(rows=0)]}, r"'train\.0\.rows' is wrong"),
        ({"train": [_sheet(rows=True)]}, r"'train\.0\.rows' is wrong"),
        ({"train": [_sheet(rows=1 << 20, columns=1 << 20)]}, "at most 1048576 tiles"),
        ({"train": [_sheet(tile=10_000)]}, "at most 1048576 tiles and 50000000 pixels"),
        ({"train": [_sheet(fine=[0] * 5)]}, "has 5 labels for 4 tiles"),
        ({"train": [_sheet(fine=[3])]}, "has the label 3; there are 0 to 2"),
        ({"train": [_sheet(fine=[-1])]}, "has the label -1"),
        ({"train": [_sheet(fine=["0"])]}, r"'train\.0\.fine\.0' is wrong"),
        ({"train": {}}, "'train' is wrong"),
        ({"fine_names": ["a", "a", "b"]}, "a fine name twice"),
        ({"fine_names": ["a", "\x00", "b"]}, "has the fine name"),
        ({"fine_names": ["a", "\ud800", "b"]}, "has the fine name"),
        ({"coarse_of_fine": [0, 1]}, "one number for each of the 3 fine names"),
        ({"coarse_of_fine": [0, 1, 2]}, "from 0 to 1"),
        ({"train": []}, "holds no labelled image"),
    ],
)
def test_a_wrong_index_of_mosaics_names_the_place(tmp_path, changes, said):
    """An error in index.json gives the sheet or the key, before any image is decoded."""
    mosaics(tmp_path, {"a.png": ("train", [0])}, **changes)

    with pytest.raises(PersonaeError, match=said):
        layout.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "3", "\xff"])
def test_a_damaged_json_is_named(tmp_path, text):
    """A file that is not a JSON object is an error that gives the file."""
    (tmp_path / "index.json").write_text(text, encoding="latin-1")

    with pytest.raises(BadFolder, match=r"index\.json"):
        layout.read(tmp_path)


@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_index_is_read_or_refused_by_name(tmp_path_factory, content):
    """Random bytes after a valid header raise only errors of the package."""
    root = tmp_path_factory.mktemp("any")
    (root / "index.csv").write_bytes(b"path,label,split\n" + content)
    try:
        found = layout.read(root).images
    except PersonaeError:
        return

    assert len(found) == len({image.path for image in found})
    assert not any(image.path.startswith(("/", "..")) for image in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(key=st.sampled_from(["train", "fine_names", "coarse_of_fine", "sheet", "fine"]), value=JSON)
def test_any_value_in_an_index_is_read_or_refused_by_name(tmp_path_factory, key, value):
    """Any value in any part of index.json raises only errors of the package."""
    root = tmp_path_factory.mktemp("any")
    changes = {key: value} if key not in ("sheet", "fine") else {"train": [_sheet(**{key: value})]}
    mosaics(root, {"a.png": ("train", [0])})
    index = json.loads((root / "index.json").read_text()) | changes
    (root / "index.json").write_text(json.dumps(index))
    with contextlib.suppress(PersonaeError):
        assert layout.read(root).images


def test_absent_folders_and_empty_ones_are_named(tmp_path):
    """An absent or empty folder is an error that says what to provide."""
    with pytest.raises(MissingInput, match="is no folder"):
        layout.read(tmp_path / "nowhere")
    with pytest.raises(MissingInput, match="holds no labelled image"):
        layout.read(tmp_path)


def test_a_label_that_leads_outside_is_an_error(tmp_path):
    """A label folder that links to a folder outside is an error."""
    save(tmp_path / "elsewhere" / "a.png", 0)
    root = by_label(tmp_path / "images")
    (root / "linked").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BadFolder, match="a link that leaves"):
        layout.read(root)


def test_a_label_that_is_no_utf8_is_an_error(tmp_path):
    """A folder name that is not UTF-8 is an error, because a label is text."""
    root = by_label(tmp_path / "images")
    odd = root / os.fsdecode(b"\xff")
    odd.mkdir()
    (odd / "a.png").write_bytes(b"")

    with pytest.raises(BadFolder, match="has the label"):
        layout.read(root)
