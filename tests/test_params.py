"""One section, one model: the same promises in each package."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict, Field


class Example(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min_images: int = Field(300, ge=1, description="Images a persona needs.")
    ratings: list[str] = Field(["g"], description="Ratings kept.")
    cap: int | None = Field(None, description="Largest number kept.")
    fast: bool = Field(True, description="Use the fast recipe.")


@pytest.fixture(params=["scraper", "curation", "train"])
def params(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{request.param}.params")


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_command_line_wins_over_file_and_file_over_default(params, tmp_path):
    """The command line wins, then the file, then the default."""
    path = _file(tmp_path, "example: {min_images: 7, ratings: [g, s]}")

    values = params.section(path, "example", Example, {"min_images": 9, "cap": None})

    assert (9, ["g", "s"], None) == (values.min_images, values.ratings, values.cap)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("example: {min_image: 7}", ["example.min_image", "Did you mean 'min_images'"]),
        ("example: {zzz: 7}", ["example.zzz", "Known: min_images"]),
        ("example: {min_images: many}", ["example.min_images", "'many'", "integer"]),
        ("example: {min_images: 0}", ["example.min_images", "greater than or equal to 1"]),
        ("example: 3", ["'example'", "must be a mapping"]),
        ("- a\n- b", ["must be a mapping"]),
        ("{unclosed", ["cannot be read as YAML"]),
    ],
)
def test_bad_values_are_named(params, tmp_path, text, parts):
    """A bad file, section, key or value is one clear message with exit code 2."""
    path = _file(tmp_path, text)

    with pytest.raises(Exception, match=r"params\.yaml") as caught:
        params.section(path, "example", Example)

    assert "BadParams" == type(caught.value).__name__
    assert 2 == caught.value.exit_code
    assert [] == [part for part in parts if part not in str(caught.value)]


def test_missing_file_says_what_to_do(params, tmp_path):
    """Without params.yaml the message names the option to give."""
    with pytest.raises(Exception, match="--params"):
        params.section(tmp_path / "params.yaml", "example", Example)


def test_options_carry_names_types_and_help(params):
    """Each field is an option with its type, and an option not given is None."""
    parser = argparse.ArgumentParser()
    params.add_options(parser, Example)

    given = parser.parse_args(["--min-images", "5", "--ratings", "g", "s", "--no-fast"])

    expected = {"min_images": 5, "ratings": ["g", "s"], "cap": None, "fast": False}
    assert expected == params.overrides(given, Example)
    assert "Images a persona needs. (default: 300)" in " ".join(parser.format_help().split())
