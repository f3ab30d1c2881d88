"""Tests the settings: the command line overrides the file, and the file overrides the defaults."""

import argparse
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae import settings
from personae.errors import BadParams
from personae.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


class Example(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min_images: int = Field(300, ge=1, description="Images a persona needs.")
    ratings: list[str] = Field(["g"], description="Ratings kept.")
    cap: int | None = Field(None, description="Largest number kept.")
    fast: bool = Field(True, description="Use the fast recipe.")
    recipe: Literal["report", "fast"] = Field("fast", description="Recipe.")


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_command_line_wins_over_file_and_file_over_default(tmp_path):
    """The command line wins, then the file, then the default."""
    path = _file(tmp_path, "example: {min_images: 7, ratings: [g, s]}")

    values = Settings(path).section("example", Example, {"min_images": 9, "cap": None})

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
        ("example: {cap: 1}\nexample: {cap: 2}", ["'example' stands twice"]),
        ("runs: {on: {method: flat}}", ["the key 'on'", "True", "quotes", "line 1, column 8"]),
        ("example: {7: 1}", ["the key '7'", "quotes"]),
        ("example: {[a]: 1}", ["is no name"]),
        ("[" * 5000, ["cannot be read as YAML"]),
        ("example: {min_images: " + "9" * 5000 + "}", ["params.yaml"]),
        ("a: &a [x]\n" + "b: [" + ", ".join(["*a"] * 17) + "]", ["more than 16 aliases"]),
        ("x: " + "y" * (1 << 20), ["more than 1048576 bytes"]),
    ],
)
def test_bad_values_are_named(tmp_path, text, parts):
    """A bad file, section, key or value is one clear message with exit code 2."""
    path = _file(tmp_path, text)

    with pytest.raises(Exception, match=r"params\.yaml") as caught:
        Settings(path).section("example", Example)

    assert "BadParams" == type(caught.value).__name__
    assert 2 == caught.value.exit_code
    assert [] == [part for part in parts if part not in str(caught.value)]


def test_bad_option_is_named_as_an_option(tmp_path):
    """A bad command-line value is reported with its option, and a bad file value with its file."""
    path = _file(tmp_path, "example: {ratings: 3}")

    with pytest.raises(Exception, match="--min-images") as caught:
        Settings(path).section("example", Example, {"min_images": -3})

    option, file = str(caught.value).split(f" {path}: ")
    assert option == "--min-images is -3: Input should be greater than or equal to 1."
    assert file.startswith("'example.ratings' is 3:")


class Pair(BaseModel):
    """Two values that must not be equal."""

    one: int = 1
    other: int = 2

    @model_validator(mode="after")
    def _differ(self) -> "Pair":
        if self.one == self.other:
            raise ValueError("one and other must differ")
        return self


def test_an_unknown_section_is_an_error_of_the_commands(tmp_path):
    """A misspelt section would leave the defaults in force; the message names the nearest one."""
    options = argparse.Namespace(params=_file(tmp_path, "lop: {lr: 0.5}"))

    with pytest.raises(BadParams, match=r"'lop' is no section. Did you mean 'loop'\?"):
        Settings.of(options)


@pytest.mark.parametrize("name", ["uppsala_v1.1", "a/b", "-x", "a b", "''"])
def test_run_that_dvc_cannot_address_is_an_error_of_every_command(tmp_path, name):
    """The first stage of the chain refuses the name, not the first that trains."""
    path = tmp_path / "params.yaml"
    path.write_text(f"runs: {{{name}: {{method: flat}}}}", encoding="utf-8")

    with pytest.raises(BadParams, match="cannot be the name of a run, because DVC"):
        Settings.of(argparse.Namespace(params=path))


@pytest.mark.parametrize("preset", sorted(ROOT.glob("presets/*.yaml")), ids=lambda path: path.stem)
def test_every_section_of_a_preset_is_known(preset):
    """All presets pass the check of sections."""
    settings = Settings.of(argparse.Namespace(params=preset))

    assert preset == settings.path


def test_values_that_do_not_go_together_name_the_section(tmp_path):
    """The message is the model's own; the file is named only if all values are the file's."""
    path = _file(tmp_path, "pair: {one: 2}")

    with pytest.raises(Exception, match="one and other") as caught:
        Settings(path).section("pair", Pair)
    assert f"{path}: Section 'pair': one and other must differ." == str(caught.value)
    with pytest.raises(Exception, match="one and other") as caught:
        Settings(path).section("pair", Pair, {"other": 2})
    assert "--other 2: one and other must differ (section 'pair')." == str(caught.value)


def test_values_of_another_place_win_over_the_section(tmp_path):
    """Values of a run override those of its section, and the command line overrides both."""
    path = _file(tmp_path, "example: {min_images: 7, cap: 5}")
    own = {"min_images": 8}

    assert 8 == Settings(path).section("example", Example, own=own).min_images
    assert 9 == Settings(path).section("example", Example, {"min_images": 9}, own=own).min_images
    assert None is Settings(path).section("example", Example, own=own, alone=True).cap


def test_missing_file_says_what_to_do(tmp_path):
    """If the parameter file is missing, the message gives the option to use."""
    with pytest.raises(Exception, match="--params"):
        Settings(tmp_path / "params.yaml")


def test_options_carry_names_types_and_help():
    """Each field becomes an option with its type, and an omitted option is None."""
    parser = argparse.ArgumentParser()
    settings.add_options(parser, Example)

    given = parser.parse_args(["--min-images", "5", "--ratings", "g", "s", "--no-fast"])

    expected = {
        "min_images": 5,
        "ratings": ["g", "s"],
        "cap": None,
        "fast": False,
        "recipe": None,
    }
    assert expected == settings.overrides(given, Example)
    shown = " ".join(parser.format_help().split())
    assert "Images a persona needs. (default: 300)" in shown
    assert "Largest number kept. (default: unset)" in shown


def test_help_shows_the_values_of_the_file(tmp_path):
    """Beside a default stands the value of the file that the command line names."""
    path = _file(tmp_path, "example: {cap: 4, fast: true, other: 1}")
    file = Settings.named_in(["stage", "--params", str(path), "--cap", "9"])
    parser = argparse.ArgumentParser()
    settings.add_options(parser, Example, values=file.values("example"))
    shown = " ".join(parser.format_help().split())

    assert "Largest number kept. (default: unset; params.yaml: 4)" in shown
    assert "Images a persona needs. (default: 300)" in shown
    assert {} == file.values("absent")


@pytest.mark.parametrize("arguments", [["--params", "absent.yaml"], ["--params"], ["-h"]])
def test_help_needs_no_readable_file(tmp_path, monkeypatch, arguments):
    """Where no file can be read, the help shows the defaults; a list is no section."""
    monkeypatch.chdir(tmp_path)
    file = Settings.named_in(arguments)
    assert file is None or {} == file.values("example")
    (tmp_path / "params.yaml").write_text("example: [1]", encoding="utf-8")
    assert {} == Settings.named_in([]).values("example")


def test_literals_become_choices(capsys):
    """A Literal field becomes an option with choices, and any other value is wrong usage."""
    parser = argparse.ArgumentParser()
    settings.add_options(parser, Example)

    assert "report" == parser.parse_args(["--recipe", "report"]).recipe
    assert "{report,fast}" in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["--recipe", "slow"])
    assert "invalid choice: 'slow'" in capsys.readouterr().err


def test_defaults_hold_without_a_file(tmp_path, monkeypatch):
    """Without a named file and without params.yaml, every section has its defaults."""
    monkeypatch.chdir(tmp_path)

    assert Example() == Settings().section("example", Example)
    assert [0] == Settings().seeds()


def test_file_of_the_folder_is_read_when_none_is_named(tmp_path, monkeypatch):
    """If no file is named, params.yaml of the current folder is read."""
    _file(tmp_path, "example: {cap: 4}\nseeds: [1, 2]")
    monkeypatch.chdir(tmp_path)

    assert 4 == Settings().section("example", Example).cap
    assert [1, 2] == Settings().seeds()


@pytest.mark.parametrize(("name", "word"), [("word", "on"), ("choice", "off")])
def test_a_word_that_yaml_takes_for_a_truth_value_needs_quotes(tmp_path, name, word):
    """`on` without quotes is true: where a text belongs, the error says so. With quotes it is a text."""

    class Words(BaseModel):
        word: str = ""
        choice: Literal["", "off"] = ""

    path = tmp_path / "params.yaml"
    path.write_text(f"words: {{{name}: {word}}}\n")
    with pytest.raises(BadParams, match=rf"'words\.{name}' is (True|False): .* in quotes\."):
        Settings(path).section("words", Words)
    path.write_text(f"words: {{{name}: '{word}'}}\n")

    assert word == getattr(Settings(path).section("words", Words), name)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("many", "'seeds' is 'many': Input should be a valid list"),
        ("[]", r"'seeds' is \[\]: it must hold at least one seed"),
        ("[0, 1, 0]", r"'seeds' is \[0, 1, 0\]: .* each only once"),
        ("[0, -1]", r"'seeds' is \[0, -1\]: .* none below 0"),
    ],
)
def test_seeds_that_cannot_be_trained_are_named(tmp_path, seeds, message):
    """An empty list, a repeated or negative seed and another type are an error of every command."""
    path = _file(tmp_path, f"seeds: {seeds}")

    with pytest.raises(BadParams, match=message):
        Settings(path).seeds()
    with pytest.raises(BadParams, match=message):
        Settings(path).check_sections()
