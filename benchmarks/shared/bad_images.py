"""
Hostile images through the scraper and stage `measure`: from a folder kind by kind, and from a board at once.

Each image must be refused with a reason or be measured, and the sound images beside it must all be
measured. The bombs have processes of their own; so their time and memory is that of one image.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.shared import bad_case, hostile_images
from benchmarks.shared.bad_case import BadCase
from benchmarks.shared.board import everything
from benchmarks.shared.forked import Ended, Forked
from benchmarks.shared.scraper_kills import new_folder
from personae import container
from scraper.sources.folder import post_id
from tests.scraper.faulty_fixture import FaultyBoard

MOST_CPU_SECONDS = 5.0
MOST_MIB, MOST_MIB_SOUND = 512.0, 1300.0
"""Of a refused image, and of a sound one of as many pixels as `measure.max_pixels` allows."""
SOUND = 6
"""Sound images beside the hostile ones of a folder."""
_PARAMS = "download: {side: null}\nmeasure: {side: 48, workers: 1}\n"
_PARAMS_OF_BATCH = "download: {side: null}\nmeasure: {side: 48, workers: 2}\n"
_SUFFIXES = {"JPEG": "jpg", "WEBP": "webp"}


def run() -> list[BadCase]:
    """Returns the outcome of every hostile image."""
    images = hostile_images.images()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with Forked(*bad_case.SCRAPER) as scrape, Forked(*bad_case.CURATION) as curate:
            cases = [
                case
                for number, names in enumerate(_units(images))
                for case in _of_folder(
                    scrape,
                    curate,
                    new_folder(root, str(number), _PARAMS),
                    {name: images[name] for name in names},
                )
            ]
        from_board = asyncio.run(_of_board(new_folder(root, "board", _PARAMS_OF_BATCH), images))
    return [
        BadCase(
            case.group,
            case.name,
            case.outcome,
            case.cpu_seconds,
            case.peak_mib,
            (*case.problems, *(f"{problem} (from a board)" for problem in from_board[case.name])),
        )
        for case in cases
    ]


def _units(images: Mapping[str, bytes]) -> list[list[str]]:
    """Returns the names of images that share a folder: those of a kind, and each bomb alone."""
    kinds = [list(names) for _, names in groupby(images, key=_kind)]
    return [
        part
        for names in kinds
        for part in ([[name] for name in names] if _kind(names[0]) == "bomb" else [names])
    ]


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _of_folder(
    scrape: Forked, curate: Forked, folder: Path, images: Mapping[str, bytes]
) -> list[BadCase]:
    """Returns the outcome of images of one folder, which lie there beside sound ones."""
    root = folder / "images"
    paths = {
        name: f"rin/{number}.{_SUFFIXES.get(container.signature(data) or '', 'png')}"
        for number, (name, data) in enumerate(images.items())
    }
    sound = {f"mai/{number}.png": _sound(number) for number in range(SOUND)}
    for path, data in [*sound.items(), *((paths[name], images[name]) for name in images)]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    options = ["--folder", str(root), "--min-images", "1", "--min-side", "0"]
    ends = [scrape(folder, *options), curate(folder, "measure")]
    ids = {name: post_id(path) for name, path in paths.items()}
    outcomes, wrong = _outcomes(folder / "data", ids, [post_id(path) for path in sound])
    wrong += [problem for ended in ends for problem in _unfinished(ended)]
    cpu_seconds = max(ended.cpu_seconds for ended in ends)
    peak_mib = max(ended.peak_mib for ended in ends)
    wrong += [f"{cpu_seconds:.1f} s of CPU"] if cpu_seconds > MOST_CPU_SECONDS else []
    is_sound = bad_case.HARMLESS in outcomes.values()
    most_mib = MOST_MIB_SOUND if is_sound else MOST_MIB
    wrong += [f"{peak_mib:.0f} MiB"] if peak_mib > most_mib else []
    return [
        BadCase(f"images: {_kind(name)}", name, outcome, cpu_seconds, peak_mib, tuple(wrong))
        for name, outcome in outcomes.items()
    ]


async def _of_board(folder: Path, images: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Returns the problems of each image, all served by one board with sound ones between them."""
    async with FaultyBoard() as board:
        ids = {name: 1000 + 2 * number for number, name in enumerate(images)}
        for name, number in ids.items():
            bad_case.offer(board, number, images[name], tag_string_character="rin")
            bad_case.offer(board, number + 1, _sound(number), tag_string_character="mai")
        options = [*everything(board.origin), "--give-up-after", "1000"]
        ends = [
            await asyncio.to_thread(bad_case.process, folder, *command)
            for command in (("scraper", *options), ("curation", "measure"))
        ]
    shared = [problem for ended in ends for problem in _unfinished(ended)]
    outcomes, wrong = _outcomes(folder / "data", ids, [number + 1 for number in ids.values()])
    return {name: [*shared, *wrong, *([] if outcomes[name] else ["lost"])] for name in images}


def _unfinished(ended: Ended) -> list[str]:
    failed = [f"ended with {bad_case.error(ended)}"] if ended.code else []
    return bad_case.complaints(ended) + failed


def _outcomes(
    data_dir: Path, ids: Mapping[str, int], sound: list[int]
) -> tuple[dict[str, str], list[str]]:
    """Returns the outcome of each hostile image, and the problem if a sound one is not measured."""
    table = pq.read_table(data_dir / "measure/measures.parquet", columns=["post_id", "error"])
    verdicts = bad_case.refusals(data_dir) | {
        row["post_id"]: row["error"] or bad_case.HARMLESS for row in table.to_pylist()
    }
    lost = [number for number in sound if verdicts.get(number) != bad_case.HARMLESS]
    outcomes = {name: verdicts.get(number, "") for name, number in ids.items()}
    silent = [name for name, outcome in outcomes.items() if not outcome]
    problems = [f"lost: {len(lost)} of {len(sound)} sound images"] if lost else []
    return outcomes, problems + [f"lost without a reason: {name}" for name in silent]


def _sound(number: int) -> bytes:
    return hostile_images.saved(hostile_images.drawing(seed=1000 + number), "PNG")
