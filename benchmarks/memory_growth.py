"""
Peak resident size of `python -m scraper` at 50,000 posts, as a multiple of that at 5,000.

Both runs list, judge and download every post of a board of tiny images. The size is the high-water mark
of the kernel (`VmHWM` in /proc/self/status).
"""

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.shared import quick_board
from benchmarks.shared.result import Result

FEW, MANY, RUNS, BAR = 5_000, 50_000, 3, 1.1
_MEASURED = """
import sys
from scraper.__main__ import main
code = main(sys.argv[1:])
sys.stderr.write(open("/proc/self/status").read())
sys.exit(code)
"""


def peak_mib(posts: int) -> float:
    """Returns the peak resident size of a whole scrape of `posts` posts, in MiB."""
    with quick_board.served(posts) as url, tempfile.TemporaryDirectory() as name:
        quick_board.new_folder(Path(name))
        command = [sys.executable, "-c", _MEASURED, *quick_board.options(url)]
        done = subprocess.run(command, cwd=name, check=True, capture_output=True, text=True)
        if quick_board.requested(url)["files"] != posts:
            raise SystemExit(f"not every image was requested once:\n{done.stdout}")
    mark = re.search(r"^VmHWM:\s+(\d+) kB$", done.stderr, flags=re.MULTILINE)
    if mark is None:
        raise SystemExit("this system does not report the peak resident size")
    return int(mark[1]) / 1024


def run() -> Result:
    """Returns the median ratio."""
    pairs = [(peak_mib(FEW), peak_mib(MANY)) for _ in range(RUNS)]
    ratios = [many / few for few, many in pairs]
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="of the peak resident size at a tenth of the posts",
        bar=f"<= {BAR:g}",
        ok=value <= BAR,
        runs=ratios,
        details={
            f"mib_at_{FEW}": [round(few, 1) for few, _ in pairs],
            f"mib_at_{MANY}": [round(many, 1) for _, many in pairs],
        },
    )
