"""
Runs `download` in child processes that can be killed; `test_resume.py` starts this program.

    python tests/scraper/killed_download.py < jobs

Each line of standard input is a job in JSON. This process has imported everything already and forks
a child for each job. It prints the child's process id, then its exit code.
"""

import asyncio
import json
import os
import resource
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from personae.errors import PersonaeError
from scraper import download, site
from scraper.client import Client
from scraper.policy import Patience, RequestBudget
from scraper.sources.folder import Folder


async def run(job):
    seen = Counter()

    def at(step):
        seen[step] += 1
        if (step, seen[step]) == (job.get("step"), job.get("count")):
            os.kill(os.getpid(), signal.SIGKILL)

    params = download.Params(**job["params"])
    folders = [Path(job["folder"]) / name for name in ("listing", "decide", "download")]
    if "images" in job:
        images = Folder(Path(job["images"]))
        await download.run(params, images, images, *folders, at=at)
        return
    board = replace(
        site.Site.resolve(site.Params(name=job["url"])), name="board", cdn_rate=job["rate"]
    )
    patient = Patience(connect_seconds=120, read_seconds=120, total_seconds=240)
    async with Client(board, RequestBudget(board, patient)) as client:
        await download.run(params, client, board, *folders, at=at)


def child(job):
    """Runs the job and returns the exit code of the command."""
    if "file_limit" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"], job["file_limit"]))
    try:
        asyncio.run(run(job))
    except PersonaeError as error:
        return report(job, error)
    except ExceptionGroup as group:
        return report(job, group.exceptions[0])
    return 0


def report(job, error):
    """Writes the error message for the test; a defect raises, without an exit code."""
    Path(job["folder"], "message").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
    return error.exit_code


def main():
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = 70
            try:
                code = child(json.loads(line))
            finally:
                os._exit(code)
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
