"""Tests the command: its output, its exit codes, and its continuation after an interruption."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import stamina.instrumentation
import yaml
from aiohttp import web

from scraper import contact, recorded
from scraper.__main__ import main
from scraper.demo.board import booru
from scraper.demo.facts.params import TINY
from scraper.demo.server.thread import serving
from scraper.params import decide, download, listing, personae, site

ROOT = Path(__file__).resolve().parents[2]
FAST = ["--api-rate", "1e6", "--cdn-rate", "1e6", "--attempts", "2"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Provides a folder with parameters and without account or contact; restores the log levels."""
    monkeypatch.chdir(tmp_path)
    for name in ("PERSONAE_CONTACT", "PERSONAE_LOGIN", "PERSONAE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    params(site={"name": "http://127.0.0.1:9"})
    loggers = [logging.getLogger(name) for name in ("aiohttp", "asyncio", "urllib3")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    stamina.instrumentation.set_on_retry_hooks(None)


def params(**sections):
    Path("params.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")


@pytest.fixture(scope="module")
def board():
    with serving(booru.board(TINY)) as served:
        yield served


def test_whole_run_and_again(board, capsys):
    """The stages run one by one and together; a second run looks for new posts and no image."""
    command = ["--site", board.url, "--min-images", "12", *FAST]
    assert 0 == main(["listing", *command])
    assert 0 == main(["status"])
    assert "listing   done" in capsys.readouterr().out
    assert 0 == main([*command, "--side", "64"])
    out = capsys.readouterr().out
    images, requests = board.log.by_kind["cdn"], board.log.by_kind["api"]

    assert 0 == main([*command, "--side", "64"])

    assert out.startswith(f"Site: {board.url}. Another: --site demo, --site danbooru")
    assert "personae qualify" in out
    assert out.endswith("\ndata/download is written. Next:\n  python -m curation measure\n")
    assert ", 0 left" in out
    assert images == board.log.by_kind["cdn"]
    searches = recorded.summary(Path("data/listing")).searches
    of_tables = requests - 2 * searches  # a first walk ends with an empty page
    assert of_tables + searches == board.log.by_kind["api"] - requests
    kept = pq.read_table("data/decide/kept.parquet").num_rows
    decisions = pq.read_table("data/download/decisions.parquet")
    assert kept == len(set(decisions.column("post_id").to_pylist()))

    assert 2 == main(["decide", "--min-images", "1000"])
    error = capsys.readouterr().err
    assert "No persona has 1000 images that pass the rules. The largest: " in error
    assert re.search(r"Refused by the rules: .*\bmonochrome_tag \d+", error)
    assert "persona_too_small" not in error


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_run_never_writes_through_a_link_into_a_cache(board, link, capsys):
    """Files that DVC has linked to its cache stay as they are there, and the run fetches more."""
    command = ["--site", board.url, "--min-images", "12", *FAST]
    assert 0 == main([*command, "--max-images", "12"])
    cached = {}
    for number, path in enumerate(sorted(Path("data").rglob("*"))):
        if path.is_file():
            copy = Path(f"cached{number}").absolute()
            path.rename(copy)
            copy.chmod(0o444)
            link(copy, path)
            cached[copy] = copy.read_bytes()
    capsys.readouterr()

    assert 0 == main([*command, "--max-images", "20"])
    assert "0 left" in capsys.readouterr().out
    assert cached == {copy: copy.read_bytes() for copy in cached}


def test_data_outside_the_repository_is_refused_before_any_request(tmp_path, monkeypatch, capsys):
    """As a stage of DVC, a data folder that is a link to another disk is refused at once."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    Path("data").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "clone"))

    assert 2 == main(["listing", "--site", "http://127.0.0.1:9"])
    assert "DVC tracks no output there" in capsys.readouterr().err


def test_plan_downloads_nothing(board, capsys):
    """`plan` prints personae and hours, and requests no image."""
    assert 0 == main(["plan", "--site", board.url, "--min-images", "20", "--sample", "3", *FAST])

    assert "images that pass" in capsys.readouterr().out
    assert ["plan"] == [path.name for path in Path("data").iterdir()]


@pytest.mark.parametrize(
    "options", [["--site", "folder", "--folder", "pictures"], ["--site", "demo"]]
)
def test_types_that_cannot_be_read_are_refused_at_once(options, tmp_path, monkeypatch, capsys):
    """Where originals are read, other types would all be refused after the download."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("download: {side: null}")

    assert 2 == main([*options, "--file-types", "jpg", "gif", "tiff"])
    error = capsys.readouterr().err
    assert "'decide.file_types' has gif, tiff, which Personae does not read" in error
    assert "It reads jpg, jpeg, png, webp." in error
    assert not (tmp_path / "data").exists()


def test_each_stage_names_its_folder_and_the_next_command(board, capsys):
    """After a stage, two lines say where its output lies and which command comes next."""
    options = ["--site", board.url, "--min-images", "5", *FAST, "--data", "my data"]

    assert 0 == main(["listing", *options])
    listed = capsys.readouterr().out
    assert 0 == main(["decide", "--min-images", "5", "--data", "my data"])

    assert listed.endswith(
        "my data/listing is written. Next:\n  python -m scraper decide --data 'my data'\n"
    )
    assert "my data/decide is written. Next:\n  python -m scraper download --data 'my data'\n" == (
        capsys.readouterr().out
    )


def test_no_candidate_at_all(board, capsys):
    """If no tag is frequent enough, a run and a plan end with code 2 and name the largest counts."""
    for command in ([], ["plan"]):
        assert 2 == main([*command, "--site", board.url, "--min-images", "5000", *FAST])
        error = capsys.readouterr().err
        assert re.search(
            r"No persona has 5000 posts .* The largest: (\S+ \d+, ){4}\S+ \d+\.", error
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min-imags", "3"], "Did you mean '--min-images'?"),
        (["--min-images", "many"], "invalid int value"),
        (["lisitng"], "Did you mean 'listing'?"),
        (["decide", "--workers", "3"], "unrecognized arguments"),
        (["demo", "--port", "99999"], "'99999' must be a port"),
    ],
)
def test_unknown_option_is_usage(arguments, words, capsys):
    """A wrong option ends with code 2 and one line that suggests the nearest option."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    err = capsys.readouterr().err
    assert words in err
    assert 1 == err.count("\n")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"personae": {"min_image": 5}},
            "'personae.min_image' is not a parameter. Did you mean 'min_images'?",
        ),
        ({"listing": {"page_size": 500}}, "'listing.page_size' is 500"),
        ({"site": {"name": "danboru"}}, "which is no board. Did you mean 'danbooru'?"),
        ({"site": {"name": "danbooru"}}, "PERSONAE_CONTACT"),
        (
            {"site": {"name": "danbooru", "contact": "me@example.org", "api_rate": 50}},
            "allows 10 at most",
        ),
    ],
)
def test_bad_parameter_is_usage(sections, words, capsys):
    """A wrong parameter ends with code 2, and the message gives section, key and allowed values."""
    params(**sections)

    assert 2 == main([])
    assert words in capsys.readouterr().err


def test_missing_parameter_file_is_usage(capsys):
    """A file named by --params must exist; without params.yaml the defaults apply."""
    Path("params.yaml").unlink()

    assert 2 == main(["--params", "nowhere.yaml"])
    assert "nowhere.yaml does not exist" in capsys.readouterr().err
    assert 2 == main(["plan", "--site", "folder"])
    assert "--folder PATH" in capsys.readouterr().err


def test_unreachable_board_is_resumable(capsys):
    """An unreachable board ends with code 3 and one line that says how to continue."""
    assert 3 == main(FAST)

    captured = capsys.readouterr()
    assert captured.out.startswith("Site: http://127.0.0.1:9")
    assert "cannot be reached" in captured.err
    assert "Run the same command again" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        ((403, "text/html", "<html>"), 4, "a challenge"),
        ((200, "application/json", '{"a": 1}'), 5, "a list of objects was expected"),
        ((200, "text/plain", "hello"), 5, "no Danbooru-style board"),
        ((422, "application/json", '{"error": "PostQuery::TagLimitError"}'), 4, "fewer terms"),
    ],
)
def test_codes_tell_policy_from_data(image_host, capsys, sent, code, words):
    """A refusal by the board ends with code 4, a malformed response with 5."""
    status, kind, text = sent

    async def answer(_request):
        return web.Response(text=text, status=status, content_type=kind)

    image_host.faults["/tag_implications.json"] = answer

    assert code == main(["--site", image_host.url, *FAST])
    assert words in capsys.readouterr().err


def test_login_page_of_a_network_is_resumable(image_host, capsys):
    """A redirect off the list, as a captive portal sends it, ends with code 3."""

    async def answer(_request):
        raise web.HTTPFound("http://login.hotel.example/")

    image_host.faults["/tag_implications.json"] = answer

    assert 3 == main(["--site", image_host.url, *FAST])
    assert "run the same command again" in capsys.readouterr().err


def test_stage_without_its_input(capsys):
    """A stage without its input gives the missing stage."""
    assert 5 == main(["decide"])
    assert "stage 'listing' writes it" in capsys.readouterr().err


def test_status_of_nothing(capsys):
    """Before any run, `status` says that nothing has been done."""
    assert 0 == main(["status"])

    out = capsys.readouterr().out
    assert ["listing   not begun", "decide    not done", "download  not begun"] == out.splitlines()


def test_interrupt_is_resumable(image_host, tmp_path):
    """Ctrl-C ends a real process with code 3, and the message says how to continue."""
    released = threading.Event()

    async def stall(_request):
        while not released.is_set():  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.02)
        return web.Response()

    image_host.faults["/tag_implications.json"] = stall
    with subprocess.Popen(
        [sys.executable, "-m", "scraper", "--site", image_host.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests started in the background of a shell ignore Ctrl-C, and so would the child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads yet
    ) as process:
        image_host.wait_for(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    released.set()

    assert 3 == process.returncode
    assert out.startswith("Site: ")
    assert err.endswith(
        "error: Interrupted. What is finished is saved. Run the same command again to continue from "
        "there.\n"
    )
    assert "Traceback" not in err


def test_help_teaches(capsys):
    """The help lists commands, environment, exit codes, and every parameter with its reason."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    out = " ".join(capsys.readouterr().out.split())

    assert 0 == ended.value.code
    for word in ("plan", "status", "demo", "PERSONAE_CONTACT", "exit codes", "--site SITE"):
        assert word in out
    models = (site.Manners, personae.Params, listing.Params, decide.Params, download.Params)
    for model in models:
        for name, field in model.model_fields.items():
            assert f"--{name.replace('_', '-')}" in out
            assert field.description


def test_help_is_short_and_light():
    """The help opens with an example, fits two screens, and loads no heavy library."""
    code = (
        "import sys; from scraper.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print(*{'aiohttp', 'pyarrow', 'duckdb', 'numpy', 'networkx'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        text=True,
    )
    *lines, loaded = run.stdout.splitlines()

    assert "example: python -m scraper" in lines[2]
    assert len(lines) <= 120
    assert "" == loaded


def test_contact_is_asked_once_and_remembered(tmp_path, capsys):
    """The contact is requested once and stored in the user's configuration folder."""
    questions = []
    public = site.Params(name="danbooru")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home")}

    def ask(question):
        questions.append(question)
        return " me@example.org "

    first = contact.find(public, environment=environment, ask=ask)
    second = contact.find(public, environment=environment, ask=ask)

    assert ["me@example.org"] * 2 == [first, second]
    assert 1 == len(questions)
    assert "Saved" in capsys.readouterr().err


def test_contact_is_looked_for_in_order(tmp_path):
    """The parameter overrides the environment; a board on this machine needs no contact."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PERSONAE_CONTACT": "env@example.org"}
    given = site.Params(name="danbooru", contact="given@example.org")

    assert "given@example.org" == contact.find(given, environment=environment)
    assert "env@example.org" == contact.find(site.Params(name="danbooru"), environment=environment)
    assert "" == contact.find(site.Params(), environment=environment)  # not None
