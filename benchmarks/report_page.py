"""
Size of the report page, and time until it is painted, with 73 labels and 16 runs.

Writes random predictions of 16 runs with three seeds, and images of 128 pixels with noise, which
compress worse than drawings. Makes the report and opens it in headless Chromium.
"""

import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.shared.result import Result
from tests import chromium
from tests.train.report_fixture import arguments, asked, write
from train import report

LABELS, SIDE, ROUNDS = 73, 128, 5
BAR_MIB, BAR_MS = 5.0, 1000.0
_PAINT = """
const done = arguments[0];
new PerformanceObserver((list, observer) => {
  const paint = list.getEntries().find((entry) => entry.name === "first-contentful-paint");
  if (paint) { observer.disconnect(); done(paint.startTime); }
}).observe({ type: "paint", buffered: true });
"""


def run() -> Result:
    """Returns the size of the page in MiB; the first paint and the height are details."""
    with tempfile.TemporaryDirectory() as folder:
        made = write(Path(folder), seeds=(0, 1, 2), each=20, **_content(), draw=_noisy, side=SIDE)
        start = time.perf_counter()
        report.run(**arguments(made, params=report.Params()))
        seconds = time.perf_counter() - start
        page = made.report_dir / "index.html"
        size = page.stat().st_size / 2**20
        paints, heights = _open(page)
    paint = statistics.median(paints)
    return Result(
        value=size,
        unit="MiB of the page",
        bar=f"<= {BAR_MIB:g} MiB, painted in <= {BAR_MS:g} ms",
        ok=size <= BAR_MIB and paint <= BAR_MS,
        runs=[size],
        details={
            "labels": LABELS,
            "runs": 1 + len(_runs()),
            "seeds": 3,
            "first_paint_ms": paint,
            "paints_ms": paints,
            "height_px": heights,
            "report_seconds": seconds,
        },
    )


def _runs() -> dict[str, Any]:
    runs = {}
    for method in ("uppsala", "hiernet", "hdcnn", "merged", "dhnn"):
        given = method in ("merged", "dhnn")
        runs[method] = asked(method, "given" if given else "modularity")
        runs[f"{method}_random"] = asked(method, "random")
    for equal in ("train_flops", "macs", "params"):
        runs[f"uppsala_{equal}"] = asked("flat", None, "uppsala", equal)
    runs["uppsala_ensemble"] = asked("ensemble", None, "uppsala", "ensemble")
    runs["hiernet_train_flops"] = asked("flat", None, "hiernet", "train_flops")
    return runs


def _content() -> dict[str, Any]:
    order = np.random.default_rng(0).permutation(LABELS).tolist()
    parts = {count: [sorted(order[start::count]) for start in range(count)] for count in (12, 40)}
    trees = dict.fromkeys(("modularity", "random", "random_1"), parts[12]) | {"given": parts[40]}
    labels = tuple(f"a_species_with_a_name_{index:02d}" for index in range(LABELS))
    return {"runs": _runs(), "labels": labels, "trees": trees}


def _noisy(leaf: int, post_id: int) -> bytes:
    """Returns a PNG of smooth shapes with noise."""
    rng = np.random.default_rng([leaf, post_id])
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "PNG")
    return buffer.getvalue()


def _open(page: Path) -> tuple[list[float], dict[str, int]]:
    """Returns the milliseconds to the first paint, and the height in pixels by width of the screen."""
    paints, heights = [], {}
    with chromium.started(logs=False) as browser:
        for _ in range(ROUNDS):
            browser.get("about:blank")
            browser.get(page.as_uri())
            paints.append(float(browser.execute_async_script(_PAINT)))
        for width in (1280, 400):
            chromium.show_as(browser, width=width)
            height = browser.execute_script("return document.documentElement.scrollHeight")
            heights[str(width)] = int(height)
    return paints, heights
