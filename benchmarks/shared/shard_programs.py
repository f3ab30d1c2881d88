"""
Programs that make a data set of squares out of the same local images: ours, its peers, and the limit.

Every program decodes 7,256 illustrations, fits each into a square of 48 pixels, encodes it as PNG and
writes it, with two processes. They need the folder that `PERSONAE_TEST_DATA` names.

Ours are the stages `measure` and `shards`, as a user runs them. They do more than the others: they
check the sha256 of each stored image, turn it upright and to sRGB, measure perceptual hash, white border,
saturation, sharpness and contrast, take the sha256 of each square, and keep finished work on the disk, so
that a kill costs little. They do less in two points: they read the images out of what the scraper has
stored of the folder, not out of single files, and do not pack the 383 images that earlier stages refuse as
near duplicates or faint. The splits are drawn before.

The peers run `bare_square.encoded` and write its bytes; img2dataset has a decoder of its own (OpenCV).
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.shared import peers

IMAGES, PROCESSES = 7256, 2
LITDATA, IMG2DATASET, MOSAIC = (
    "litdata==0.2.76",
    "img2dataset==1.47.0",
    "mosaicml-streaming==0.13.0",
)
_PILLOW, _TORCH = "pillow==13.0.0", "torch==2.13.0"
_PARAMS = """
decide: {min_side: 0}
download: {side: null}
filters: {min_side: 32, min_saturation: 0.0, min_sharpness: 0.0}
duplicates: {artwork: ignore}
persona: {min_samples: 40, balance: none}
split: {train: 0.6, val: 0.15, test: 0.25, tolerance: 0.25, least_difference: 0}
"""
_BEFORE = ("measure", "filters", "duplicates", "persona", "split")
_IN_PROCESSES = """
import os, sys
from multiprocessing import Process

if __name__ == "__main__":
    rows = [line.split("\\t") for line in open(sys.argv[1]).read().splitlines()]
    os.mkdir(sys.argv[2])
    parts = [(rows[part::2], f"{sys.argv[2]}/{part}") for part in range(2)]
    processes = [Process(target=write, args=part) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert not any(process.exitcode for process in processes)
"""
_BARE = (
    """
from bare_square import encoded

def write(rows, path):
    with open(path, "wb") as file:
        for image, leaf in rows:
            file.write(encoded(image))
"""
    + _IN_PROCESSES
)
_WEBDATASET = (
    """
from bare_square import encoded
from webdataset import ShardWriter

def write(rows, path):
    with ShardWriter(f"{path}-%06d.tar", maxcount=1000, verbose=0) as writer:
        for number, (image, leaf) in enumerate(rows):
            writer.write({"__key__": f"{number:08d}", "png": encoded(image), "cls": int(leaf)})
"""
    + _IN_PROCESSES
)
_LITDATA = """
import json, sys
from bare_square import encoded
from litdata import optimize

def sample(line):
    image, leaf = line.split("\\t")
    return {"image": encoded(image), "leaf": int(leaf)}

if __name__ == "__main__":
    lines = open(sys.argv[1]).read().splitlines()
    options = {"chunk_bytes": "64MB", "num_workers": 2, "start_method": "fork", "verbose": False}
    optimize(sample, lines, sys.argv[2], **options)
    chunks = json.load(open(sys.argv[2] + "/index.json"))["chunks"]
    assert len(lines) == sum(chunk["chunk_size"] for chunk in chunks)
"""
_MOSAIC = (
    """
import json, sys, torch
try:
    import torchvision
except RuntimeError:  # a CPU torch beside a torchvision for CUDA: two operators are missing
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from bare_square import encoded
from streaming import MDSWriter
from streaming.base.util import merge_index

def write(rows, path):
    with MDSWriter(out=path, columns={"image": "bytes", "leaf": "int"}) as writer:
        for image, leaf in rows:
            writer.write({"image": encoded(image), "leaf": int(leaf)})
"""
    + _IN_PROCESSES
    + """
    merge_index(sys.argv[2])
    shards = json.load(open(sys.argv[2] + "/index.json"))["shards"]
    assert len(rows) == sum(shard["samples"] for shard in shards)
"""
)
_QUIET = MappingProxyType(
    {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
)
Program = Callable[[], int]


@contextlib.contextmanager
def prepared() -> Iterator["ShardPrograms"]:
    """Yields the programs, on a folder with the images and all that comes before `shards`."""
    root = os.environ.get("PERSONAE_TEST_DATA")
    archives = sorted((Path(root or ".") / "illustrations").glob("images-*.tar"))
    if not root or not archives:
        raise SystemExit("PERSONAE_TEST_DATA names no folder with illustrations: set it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in archives:
            with tarfile.open(path) as archive:
                archive.extractall(folder / "images", filter="data")
        yield ShardPrograms(folder)


class ShardPrograms:
    """Each method runs one program from nothing and returns the number of images that it was given."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        images = sorted((folder / "images").rglob("*.webp"))
        labels = sorted({path.parent.name for path in images})
        if len(images) != IMAGES:
            raise SystemExit(f"{len(images)} illustrations, not {IMAGES}")
        rows = (f"{path}\t{labels.index(path.parent.name)}\n" for path in images)
        (folder / "rows.tsv").write_text("".join(rows))
        (folder / "urls.txt").write_text("".join(f"file://{path}\n" for path in images))
        (folder / "ours").mkdir()
        (folder / "ours" / "params.yaml").write_text(_PARAMS)
        self._curate("scraper", "--folder", str(folder / "images"), "--min-images", "40")
        for stage in _BEFORE:
            self._curate("curation", stage)

    def ours(self) -> int:
        """Runs the stages `measure` and `shards` on what the scraper has stored."""
        data = self._folder / "ours" / "data"
        shutil.rmtree(data / "measure")
        shutil.rmtree(data / "shards", ignore_errors=True)
        (data / "measured.json").unlink()
        self._curate("curation", "measure", "--workers", str(PROCESSES))
        self._curate("curation", "shards")
        return IMAGES

    def bare(self) -> int:
        """Decodes, resizes, encodes and writes, and nothing else."""
        return self._script(Path(sys.executable), _BARE)

    def webdataset(self) -> int:
        """Runs the bare loop with webdataset's ShardWriter."""
        return self._script(Path(sys.executable), _WEBDATASET)

    def litdata(self) -> int:
        """Runs litData's `optimize`; its workers are forked, which is faster than its default."""
        return self._script(peers.environment(LITDATA, _TORCH, _PILLOW) / "python", _LITDATA)

    def mosaic(self) -> int:
        """Runs the bare loop with MosaicML's MDSWriter, a folder per process, and joins them."""
        return self._script(peers.environment(MOSAIC, _TORCH, _PILLOW) / "python", _MOSAIC)

    def img2dataset(self) -> int:
        """Runs img2dataset on addresses of local files, with the threads that are fastest."""
        target = self._folder / f"theirs{next(self._numbers)}"
        command = [peers.environment(IMG2DATASET) / "img2dataset", "--output_folder", target]
        command += ["--url_list", self._folder / "urls.txt", "--input_format", "txt"]
        command += ["--output_format", "webdataset", "--number_sample_per_shard", 1000]
        command += ["--resize_mode", "border", "--image_size", 48, "--encode_format", "png"]
        command += ["--encode_quality", 6, "--processes_count", PROCESSES, "--thread_count", 4]
        self._run([*command, "--enable_wandb", "False"], _QUIET)
        statistics = [json.loads(path.read_bytes()) for path in target.glob("*_stats.json")]
        images = sum(statistic["successes"] for statistic in statistics)
        shutil.rmtree(target)
        if images != IMAGES:
            raise SystemExit(f"img2dataset stored {images} of {IMAGES} images")
        return images

    def _script(self, python: Path, text: str) -> int:
        target = self._folder / f"theirs{next(self._numbers)}"
        script = self._folder / "script.py"
        script.write_text(text)
        environment = _QUIET | {"PYTHONPATH": str(Path(__file__).parent)}
        self._run([python, script, self._folder / "rows.tsv", target], environment)
        shutil.rmtree(target)
        return IMAGES

    def _curate(self, package: str, *arguments: str) -> None:
        path = {"PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", package, *arguments]
        self._run(command, path, cwd=self._folder / "ours")

    def _run(
        self, command: Sequence[object], settings: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self._folder,
            env=os.environ | settings,
            check=True,
            capture_output=True,
        )
