"""Tests `export`: what other programs read is what the shards hold."""

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.__main__ import main
from curation.export.folder import folder_name
from personae import files
from scraper.sources.layout import read as layout
from tests.curation.browse_fixture import edit_catalog
from tests.curation.stored_fixture import stored as stored_samples
from train.backbone import vision

HOSTILE = "../../<b>|`x`\u202e\n=cmd"


@pytest.fixture
def export(curated, capsys, tmp_path: Path):
    """Exports the small build: `export("parquet")` returns exit code, folder and error text."""

    def run(form: str, *options: str) -> tuple[int, Path, str]:
        folder = tmp_path / f"exported-{form}"
        code = main(["export", form, str(folder), "--data", str(curated.data_dir), *options])
        return code, folder, capsys.readouterr().err

    return run


def test_parquet_holds_the_images_of_the_shards(export, curated) -> None:
    """Each split is a file, in the order of the shards; the features name image and labels."""
    code, folder, _ = export("parquet")
    found = {}
    for name in ("train", "validation", "test"):
        table = pq.read_table(folder / "data" / f"{name}-00000.parquet")
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
        for row in table.to_pylist():
            split = {"validation": "val"}.get(name, name)
            found[row["post_id"]] = (split, names[row["label"]], row["image"]["bytes"])

    assert 0 == code
    assert stored_samples(curated.data_dir / "shards") == found
    assert {"_type": "Image"} == features["image"]
    assert {"string", "int64", "bool"} == {
        value["dtype"] for name, value in features.items() if "dtype" in value
    }
    assert not folder.with_name(f"{folder.name}.part").exists()


def test_two_exports_to_one_folder_are_refused(export, curated, tmp_path: Path) -> None:
    """An export does not touch the files of another one that is writing to the same folder."""
    part = tmp_path / "exported-folder.part"
    with files.locked(part):
        (part / "of_another.png").write_bytes(b"")
        code, folder, error = export("folder")
        kept = list(part.iterdir())

    assert 3 == code
    assert f"Another run is writing to {part}" in error
    assert [part / "of_another.png"] == kept
    assert 0 == export("folder")[0]
    assert not (folder / "of_another.png").exists()


def test_export_takes_a_link_and_not_the_current_folder(
    curated, capsys, tmp_path, monkeypatch
) -> None:
    """The target of a link is filled; the current folder cannot be replaced under its shell."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    monkeypatch.chdir(tmp_path / "target")
    command = ["export", "folder", "--data", str(curated.data_dir)]

    assert 2 == main([*command, "."])
    assert "target exists. Name a new folder" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert 0 == main([*command, "link"])
    assert (tmp_path / "target" / "index.csv").is_file()


def test_folder_is_read_by_torchvision_and_its_tables_agree(export, curated) -> None:
    """Classes are the leaves in their order; index.csv, metadata.csv and coco.json agree."""
    folders = vision.torchvision().datasets  # its wheels alone do not load beside a CPU build
    code, folder, _ = export("folder")
    stored = stored_samples(curated.data_dir / "shards")
    labels = json.loads((curated.data_dir / "shards" / "classes.json").read_text())["labels"]
    images = {}
    for split in ("train", "val", "test"):
        read = folders.ImageFolder(folder / split)
        for path, leaf in read.samples:
            images[int(Path(path).stem)] = (split, labels[leaf], Path(path).read_bytes())
        with (folder / split / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {f"{split}/{row['file_name']}" for row in rows} == {
            str(Path(path).relative_to(folder)) for path, _ in read.samples
        }
        assert all(stored[int(row["post_id"])][1] == row["label"] for row in rows)
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        index = {row["path"]: (row["split"], row["label"]) for row in csv.DictReader(file)}
    coco = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    categories = {entry["id"]: entry["name"] for entry in coco["categories"]}
    of_image = {
        entry["image_id"]: categories[entry["category_id"]] for entry in coco["annotations"]
    }

    assert 0 == code
    assert stored == images
    assert {(split, label) for split, label, _ in stored.values()} == set(index.values())
    assert len(stored) == len(index)
    assert {post: label for post, (_, label, _) in stored.items()} == of_image


def test_selection_is_exported_alone(export, curated, tmp_path) -> None:
    """The samples are those of the selection, labels without any are gone, and the card says so."""
    sql = "SELECT post_id FROM dataset WHERE label <> 'coral'"
    chosen = tmp_path / "chosen.parquet"
    assert 0 == main(["select", sql, "-o", str(chosen), "--data", str(curated.data_dir)])
    code, folder, _ = export("parquet", "--selection", str(chosen))
    tables = [pq.read_table(path) for path in sorted((folder / "data").glob("*.parquet"))]
    names = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]["label"][
        "names"
    ]
    card = (folder / "README.md").read_text(encoding="utf-8")

    assert 0 == code
    assert pq.read_table(chosen)["post_id"].to_pylist() == sorted(
        pa.concat_tables(tables)["post_id"].to_pylist(),
        key=pq.read_table(chosen)["post_id"].to_pylist().index,
    )
    assert "coral" not in names
    assert 3 == len(names)
    assert sql.replace("`", "") in card


def test_selection_of_another_build_is_refused(export, curated, tmp_path) -> None:
    """A selection belongs to one root hash; nothing is written for another."""
    chosen = tmp_path / "chosen.parquet"
    sql = "SELECT post_id FROM dataset"
    assert 0 == main(["select", sql, "-o", str(chosen), "--data", str(curated.data_dir)])
    table = pq.read_table(chosen)
    other = json.dumps({"root_sha256": "0" * 64, "query": sql})
    pq.write_table(table.replace_schema_metadata({"personae.selection": other}), chosen)
    code, folder, error = export("parquet", "--selection", str(chosen))

    assert 2 == code
    assert "another build" in error
    assert not folder.exists()


def test_card_has_counts_funnel_and_rights(export, curated) -> None:
    """The head is YAML, the numbers add up, and no licence is invented."""
    _, folder, _ = export("parquet")
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    total = next(line for line in card.splitlines() if line.startswith("| all |"))

    assert ["train", "validation", "test"] == [
        entry["split"] for entry in head["configs"][0]["data_files"]
    ]
    assert "unknown" == head["license"]
    assert len(stored_samples(curated.data_dir / "shards")) == sum(map(int, total.split("|")[2:5]))
    for section in (
        "## From board to data set",
        "## Splits",
        "## Ratings",
        "belong to their artists",
    ):
        assert section in card


def test_card_names_duplicates_across_given_splits(export, curated) -> None:
    """A given split may leak: then card and metadata do not say that no duplicate crosses it."""
    path = curated.data_dir / "split" / "certificate.json"
    certificate = json.loads(path.read_text(encoding="utf-8"))
    cards = []
    for passed in (True, False):
        path.write_text(json.dumps(certificate | {"passed": passed}), encoding="utf-8")
        _, folder, _ = export("parquet")
        cards.append((folder / "README.md").read_text(encoding="utf-8"))
        shutil.rmtree(folder)

    assert "No duplicate crosses the splits." in cards[0]
    assert "Duplicates cross the splits, which are those of the source." in cards[1]


def test_croissant_names_each_file_with_its_hash(export) -> None:
    """Every Parquet file is a file object with its sha256, and every column a field."""
    _, folder, _ = export("parquet")
    document = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    for part in document["distribution"]:
        content = (folder / part["contentUrl"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
    columns = set(pq.read_schema(folder / "data" / "train-00000.parquet").names)

    rows = sum(
        pq.read_metadata(folder / part["contentUrl"]).num_rows for part in document["distribution"]
    )
    assert document["description"].startswith(f"{rows} images of ")
    assert 3 == len(document["distribution"]) == len(document["recordSet"])
    for records in document["recordSet"]:
        assert columns == {field["name"] for field in records["field"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its graph library
def test_croissant_satisfies_its_own_library(export) -> None:
    """The reference library finds no error, and reads images and labels."""
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    _, folder, _ = export("parquet")
    read = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    rows = list(read.records("test-00000-samples"))
    expected = pq.read_table(folder / "data" / "test-00000.parquet").to_pylist()

    assert not read.metadata.issues.errors
    assert [row["label"] for row in expected] == [row["test-00000-samples/label"] for row in rows]
    first = np.asarray(rows[0]["test-00000-samples/image"].convert("RGB"))
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(expected[0]["image"]["bytes"]))))


def test_datasets_loads_the_parquet_files(export, curated, tmp_path) -> None:
    """The library finds splits, decodes images and knows the names of the labels."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    _, folder, _ = export("parquet")
    read = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    stored = stored_samples(curated.data_dir / "shards")

    assert {"train", "validation", "test"} == set(read)
    for part in read.values():
        for row in part:
            _, label, image = stored[row["post_id"]]
            assert label == part.features["label"].int2str(row["label"])
            assert np.array_equal(
                np.asarray(row["image"]), np.asarray(Image.open(io.BytesIO(image)))
            )


def test_existing_folder_is_left_alone(export, tmp_path) -> None:
    """A folder with files in it is refused by name, and its files stay."""
    (tmp_path / "exported-folder").mkdir()
    (tmp_path / "exported-folder" / "mine.txt").write_text("mine", encoding="utf-8")
    code, folder, error = export("folder")

    assert 2 == code
    assert "exists. Name a new folder" in error
    assert ["mine.txt"] == [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_label_that_classes_lack_is_named(export, curated, form: str) -> None:
    """A label of the catalog that classes.json does not have is an error of the data."""
    path = curated.data_dir / "shards" / "classes.json"
    classes = json.loads(path.read_text(encoding="utf-8"))
    label, classes["labels"][0] = classes["labels"][0], "another"
    path.write_text(json.dumps(classes), encoding="utf-8")
    code, folder, error = export(form)

    assert 5 == code
    assert f"classes.json lacks the label '{label}' of post" in error
    assert not folder.exists()


def test_hostile_text_stays_text(export, curated) -> None:
    """Sources and artists of the board end no code span, table row or CSV cell."""
    edit_catalog(
        curated.data_dir,
        f"UPDATE posts SET source = 'http://{HOSTILE}', tags_artist = ['{HOSTILE}']",
    )
    code, folder, _ = export("folder")
    card = (folder / "README.md").read_text(encoding="utf-8")
    with (folder / "train" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        artists = {row["artist"] for row in csv.DictReader(file)}
    again = [image.description for image in layout.read(folder).images]

    assert 0 == code
    assert {HOSTILE} == artists
    assert {("../../<b>|`x`__=cmd",)} == {described.tags["artist"] for described in again}
    assert not [line for line in card.splitlines() if line.startswith("=cmd") or "<b>|" in line]


@given(leaf=st.integers(0, 2000), label=st.text(max_size=300))
def test_name_of_a_label_is_one_plain_folder(leaf: int, label: str) -> None:
    """Whatever the tag is, its folder is one short name of letters, and differs by leaf."""
    name = folder_name(leaf, label)

    assert Path(name).name == name
    assert name.startswith(f"{leaf:03d}")
    assert name.isascii()
    assert len(name) <= 70


def test_catalog_of_other_shards_is_refused(export, curated) -> None:
    """Shards without their catalog are no build; a damaged image is named."""
    edit_catalog(curated.data_dir, "UPDATE builds SET root_sha256 = 'x'")
    code, _, error = export("parquet")
    assert 5 == code
    assert "describes other shards" in error


def test_view_of_a_foreign_catalog_reads_no_file(export, curated, tmp_path) -> None:
    """A catalog whose view reads a file of this machine is refused, and nothing is exported."""
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    columns = "s.*, NULL AS rating, [] AS tags, [] AS copyrights, NULL AS artist, NULL AS licence"
    edit_catalog(
        curated.data_dir,
        f"CREATE OR REPLACE VIEW dataset AS SELECT {columns}, t.content AS source_url, "
        "NULL AS original_url, NULL AS original_path FROM samples AS s, "
        f"read_text('{tmp_path / 'secret.txt'}') AS t",
    )
    code, folder, _ = export("folder")

    assert 5 == code
    assert not folder.exists()
