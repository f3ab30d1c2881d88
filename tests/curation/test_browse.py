"""Tests the answers of the browse page: filters, pages, details, images, and replaced files."""

import base64
import itertools
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import catalog, sample
from curation.browse import gallery, images, server
from curation.browse.routes import reply
from curation.browse.selection import Selection
from curation.browse.snapshot import Library
from tests.curation.browse_fixture import opened, samples, write_predictions


@pytest.fixture
def library(curated) -> Library:
    return opened(curated.data_dir)


def ask(library: Library, path: str, **fields: Any) -> Any:
    """Returns the JSON of an address that must answer with 200."""
    answer = reply(library, f"{path}?{urlencode(fields)}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def shown(library: Library, **fields: Any) -> list[int]:
    """Returns the ids of all posts of a selection, page by page."""
    posts, after = [], None
    while True:
        selection = Selection.model_validate(fields | {"after": after})
        page = gallery.page(library.snapshot(), selection, size=7)
        posts += [int(tile["post_id"]) for tile in page["tiles"]]
        if page["next"] is None:
            assert page["count"] == len(posts)
            return posts
        after = int(page["next"])


def test_pages_go_forwards_and_backwards(library: Library) -> None:
    """Next pages hold every post once in the order of ids; previous pages are the same pages."""
    snapshot = library.snapshot()
    pages = [gallery.page(snapshot, Selection(decision="all"), size=7)]
    while pages[-1]["next"]:
        selection = Selection(decision="all", after=int(pages[-1]["next"]))
        pages.append(gallery.page(snapshot, selection, size=7))
    posts = [int(tile["post_id"]) for page in pages for tile in page["tiles"]]
    listed = pq.read_table(library._data_dir / "listing" / "posts.parquet")["post_id"].to_pylist()

    assert sorted(listed) == posts
    assert [1 + 7 * number for number in range(len(pages))] == [page["first"] for page in pages]
    assert pages[0]["previous"] is None
    for page, later in itertools.pairwise(pages):
        assert page == gallery.page(
            snapshot, Selection(decision="all", before=int(later["previous"])), size=7
        )


WORDS = ["1girl", "white_background", "comic", "no_such_tag", "-white_background", "artist_1", "'"]
VALUES: dict[str, list[Any]] = {
    "label": ["amber", "coral_(winter)", "nobody"],
    "tags": ["", *WORDS, "1girl -white_background", "solo artist_2 -comic"],
    "split": ["train", "val", "test"],
    "decision": ["kept", "refused", "all"],
    "stage": ["decide", "duplicates", "filters", "none"],
    "reason": ["comic", "low_saturation", "near_duplicate", "none"],
    "run": ["flat", "tree", "none"],
    "seed": [0, 1, 7],
    "true": ["amber", "beryl", "nobody"],
    "predicted": ["amber", "beryl", "nobody"],
    "verdict": ["right", "wrong"],
}


def reference(
    data_dir: Path, predictions: list[dict[str, Any]], chosen: dict[str, Any]
) -> set[int]:
    """Returns the posts of a selection, computed row by row from the tables of the stages."""

    def table(name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(data_dir / name).to_pylist()
        return rows

    labels = {row["leaf"]: row["label"] for row in table("persona/classes.parquet")}
    packed = {row["post_id"]: row for row in samples(data_dir)}
    personae = {row["post_id"]: row["persona"] for row in table("decide/kept.parquet")}
    refusals = [
        row
        for stage in catalog.DECIDING
        for row in table(f"{stage}/decisions.parquet")
        if not row["kept"]
    ]
    posts = set()
    for post in table("listing/posts.parquet"):
        post_id = post["post_id"]
        tags = {tag for kind in catalog.TAGS for tag in post[f"tags_{kind}"]}
        own = [row for row in refusals if row["post_id"] == post_id]
        named = [
            row
            for row in own
            if chosen.get("stage") in (None, row["stage"])
            and chosen.get("reason") in (None, row["reason"])
        ]
        is_named = "stage" in chosen or "reason" in chosen
        decision = chosen.get("decision") or ("refused" if is_named else "kept")
        guesses = [
            row
            for row in predictions
            if row["post_id"] == post_id
            and chosen.get("split") in (None, row["split"])
            and chosen.get("run") in (None, row["run"])
            and chosen.get("seed") in (None, row["seed"])
            and chosen.get("true") in (None, labels[row["label"]])
            and chosen.get("predicted") in (None, labels[row["predicted"]])
            and chosen.get("verdict")
            in (None, "right" if row["label"] == row["predicted"] else "wrong")
        ]
        fits = [
            decision != "kept" or post_id in packed,
            decision != "refused" or own,
            not is_named or named,
            chosen.get("label") in (None, personae.get(post_id)),
            chosen.get("split") in (None, packed.get(post_id, {}).get("split")),
            all(
                (word.removeprefix("-") in tags) is not word.startswith("-")
                for word in chosen.get("tags", "").split()
            ),
            not {"run", "seed", "true", "predicted", "verdict"} & set(chosen) or guesses,
        ]
        posts |= {post_id} if all(fits) else set()
    return posts


@settings(max_examples=40)
@given(
    chosen=st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}
    )
)
def test_filters_agree_with_a_slow_reference(browse_once, chosen: dict[str, Any]) -> None:
    """Every combination of filters shows the posts that the stages' tables give row by row."""
    library, predictions = browse_once

    assert reference(library._data_dir, predictions, chosen) == set(shown(library, **chosen))


@pytest.fixture(scope="module")
def browse_once(_curated_once, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browse")
    shutil.copytree(_curated_once.data_dir, folder / "data")
    predictions = write_predictions(folder / "data", folder / "results")
    return Library(folder / "data", folder / "results"), predictions


def test_each_single_filter_shows_something(library: Library) -> None:
    """No filter is empty by mistake: each column of values above has a value with posts."""
    for name, values in VALUES.items():
        assert any(shown(library, **{name: value}) for value in values), name


def test_refused_post_shows_its_reason_without_an_image(library: Library) -> None:
    """A post that was never downloaded has a reason and no address of an image."""
    (tile,) = ask(library, "/api/posts", reason="comic")["tiles"]

    assert (tile["post_id"], tile["reasons"]) == ("5001", ["comic"])
    assert tile["square"] is tile["original"] is None
    assert 404 == reply(library, "/squares/5001").status
    assert b"no downloaded image" in reply(library, "/originals/5001").body


def test_refused_image_is_shown_with_the_numbers_compared(library: Library) -> None:
    """A refused image keeps its bytes, and its reason has the measured number and the threshold."""
    tile = ask(library, "/api/posts", reason="low_saturation")["tiles"][0]
    facts = ask(library, f"/api/posts/{tile['post_id']}")
    (refusal,) = [row for row in facts["refusals"] if row["reason"] == "low_saturation"]

    assert refusal["measured"] < refusal["threshold"]
    assert refusal["measured"] == facts["measures"]["saturation"]
    assert 200 == reply(library, f"/squares/{tile['post_id']}?v={tile['square']}").status


def test_detail_has_group_parents_and_predictions(library: Library, curated) -> None:
    """A sample knows its duplicates, its children, and the prediction of each run and seed."""
    copy, kept = next(
        (post, curated.original[post])
        for post, truth in curated.truth.items()
        if truth == "family_duplicate"
    )
    facts, child = (ask(library, f"/api/posts/{post}") for post in (kept, copy))
    tested = next(row["post_id"] for row in samples(library._data_dir) if row["split"] == "test")
    predictions = ask(library, f"/api/posts/{tested}")["predictions"]

    assert str(copy) in [tile["post_id"] for tile in facts["group"]]
    assert str(copy) in [tile["post_id"] for tile in facts["children"]]
    assert [str(kept)] == [tile["post_id"] for tile in child["parent"]]
    assert ["listing", "decide"] == [row["step"] for row in facts["journey"]][:2]
    assert [("flat", 0), ("flat", 1), ("tree", 0)] == [
        (row["run"], row["seed"]) for row in predictions
    ]
    assert {0.7} == {round(row["probability"], 4) for row in predictions}


def test_confusion_cell_leads_to_its_images(library: Library) -> None:
    """The pairs of a run are counted, and the address of a pair shows just its posts."""
    pairs = ask(library, "/api/confusions", run="flat", split="test", seed=0)
    cell = {"run": "flat", "split": "test", "seed": 0}

    assert pairs
    assert all(pair["true"] != pair["predicted"] for pair in pairs)
    for pair in pairs:
        names = {name: pair[name] for name in ("true", "predicted")}
        page = ask(library, "/api/posts", **cell, **names)
        assert pair["predictions"] == page["count"] == len(page["tiles"])
        assert {(pair["true"], pair["predicted"])} == {
            (tile["label"], *tile["predicted"]) for tile in page["tiles"]
        }


def test_choices_offer_every_value(library: Library) -> None:
    """Labels, splits, reasons, runs and the build stand in one answer; tags by their beginning."""
    offered = ask(library, "/api/choices")

    assert ["amber", "beryl", "coral", "coral_(winter)"] == [
        entry["label"] for entry in offered["labels"]
    ]
    assert len(samples(library._data_dir)) == sum(entry["samples"] for entry in offered["splits"])
    assert {"comic", "gone", "low_saturation"} <= {entry["reason"] for entry in offered["reasons"]}
    assert [("flat", [0, 1]), ("tree", [0])] == [
        (entry["run"], entry["seeds"]) for entry in offered["runs"]
    ]
    assert [] == offered["notices"]
    assert "white_background" in [row["name"] for row in ask(library, "/api/tags", prefix="wh")]


def test_images_have_the_stored_bytes(library: Library) -> None:
    """A square is the image of the shard, an original that of the segment, each with its type."""
    post_id = samples(library._data_dir)[0]["post_id"]
    square = reply(library, f"/squares/{post_id}")
    row = pq.read_table(library._data_dir / "download" / "images.parquet").to_pylist()[0]
    original = reply(library, f"/originals/{row['post_id']}")
    with (library._data_dir / "download" / "segments" / row["segment"]).open("rb") as file:
        file.seek(row["offset"])
        stored = file.read(row["file_bytes"])

    assert ("image/png", sample.stored_bytes(library._data_dir, post_id)) == (
        square.kind,
        square.body,
    )
    assert ("image/jpeg", stored) == (original.kind, original.body)
    assert "no-cache" == square.cache
    version = images.square(library.snapshot(), post_id).sha256[:16]
    assert "immutable" in reply(library, f"/squares/{post_id}?v={version}").cache


def test_page_brings_its_small_images(library: Library) -> None:
    """A page has the bytes of each small image; an image that cannot be read is left to its address."""
    (tile,) = ask(library, "/api/posts", tags="artist_0", before=1001)["tiles"]
    _, _, text = tile["data"].partition("data:image/png;base64,")

    assert sample.stored_bytes(library._data_dir, 1000) == base64.b64decode(text)
    for path in library._data_dir.glob("*/*.tar"):
        path.write_bytes(b"")
    (tile,) = ask(library, "/api/posts", tags="artist_0", before=1001)["tiles"]
    assert tile["data"] is None
    assert tile["square"]


def test_damaged_shard_is_never_shown(library: Library) -> None:
    """Where a shard is damaged, the square comes from the tar of `measure`; without it, an error."""
    post_id = samples(library._data_dir)[0]["post_id"]
    sound = reply(library, f"/squares/{post_id}")
    for path in (library._data_dir / "shards").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))

    assert sound == reply(library, f"/squares/{post_id}")
    for path in (library._data_dir / "measure").glob("*.tar"):
        path.write_bytes(b"")
    answer = reply(library, f"/squares/{post_id}")
    assert (404, True) == (answer.status, b"does not have the sha256" in answer.body)


@pytest.mark.parametrize("name", [n for n in VALUES if n not in ("split", "decision", "verdict")])
def test_sql_in_a_value_is_only_a_value(library: Library, name: str) -> None:
    """SQL in a parameter selects nothing, or is refused as no number; the catalog stays as it is."""
    answer = reply(library, "/api/posts?" + urlencode({name: "x' OR 1=1 --"}))

    assert answer.status == (400 if name == "seed" else 200)
    assert name in ("seed", "tags") or json.loads(answer.body)["count"] == 0
    assert shown(library)


def test_wrong_parameters_are_named(library: Library) -> None:
    """An unknown parameter or value gives 400 and a sentence that names it."""
    assert b"lable is not a parameter. There are label" in reply(library, "/api/posts?lable=x").body
    assert b"split: " in reply(library, "/api/posts?split=side").body
    assert b"at most 8" in reply(library, f"/api/posts?tags={'a+' * 9}").body
    assert b"give one of them" in reply(library, "/api/posts?after=1&before=9").body
    assert b"given twice" in reply(library, "/api/posts?label=a&label=b").body


def test_every_parameter_is_documented() -> None:
    """docs/browse.md has each parameter of the address, and the port that is the default."""
    page = (Path(__file__).parents[2] / "docs" / "browse.md").read_text()

    assert [name for name in Selection.model_fields if f"`{name}`" not in page] == []
    assert f"http://127.0.0.1:{server.PORT}/" in page


def test_rebuilt_catalog_is_shown(library: Library, curated) -> None:
    """A catalog that a build replaces is opened; while it is absent or broken, the old one stays."""
    count = ask(library, "/api/choices")["build"]["posts"]
    data_dir = curated.data_dir
    path = data_dir / "catalog" / "catalog.duckdb"
    path.rename(path.with_suffix(".away"))
    assert library.snapshot(at_least_every=0).rows("FROM catalog.builds")
    path.write_bytes(b"no catalog")
    assert library.snapshot(at_least_every=0).rows("FROM catalog.builds")
    posts = data_dir / "listing" / "posts.parquet"
    table = pq.read_table(posts)
    pq.write_table(table.slice(0, table.num_rows - 1), posts)
    catalog.run(catalog.Params(), data_dir=data_dir, work_dir=data_dir)
    library.snapshot(at_least_every=0)

    assert count - 1 == ask(library, "/api/choices")["build"]["posts"]


def test_new_predictions_are_shown_and_unusable_ones_named(library: Library) -> None:
    """New runs appear; damaged predictions, and those of another build, are named and left out."""
    folder = library._results_dir
    (folder / "tree" / "0" / "predictions.parquet").write_bytes(b"PAR1")
    (folder / "new" / "3").mkdir(parents=True)
    shutil.copy(folder / "flat" / "0" / "predictions.parquet", folder / "new" / "3")
    path = folder / "flat" / "1" / "predictions.parquet"
    table = pq.read_table(path)
    wrong = [(leaf + 1) % 4 for leaf in table["label"].to_pylist()]
    pq.write_table(table.set_column(3, "label", [wrong]).cast(table.schema), path)
    library.snapshot(at_least_every=0)
    offered = ask(library, "/api/choices")

    assert [("flat", [0]), ("new", [3])] == [
        (entry["run"], entry["seeds"]) for entry in offered["runs"]
    ]
    assert ["run tree, seed 0, cannot be read", "run flat, seed 1, are of another build"] == [
        notice.split("predictions of ")[1]
        .split(" and are left out")[0]
        .split(" of the data set")[0]
        for notice in offered["notices"]
    ]
