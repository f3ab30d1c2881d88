"""
Kills a listing at each of its steps and finishes it; `test_listing.py` starts this program.

    python tests/scraper/killed_listing.py URL FOLDER STEP:COUNT ...

Each job runs in forked children of one warm process, in its own folder. The program prints how each
child ended.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from scraper import listing, personae
from scraper.client import Client
from scraper.site import Params, Site
from scraper.sources.danbooru import Danbooru


async def run(url, folder, kill):
    seen = Counter()

    def at(step):
        seen[step] += 1
        if f"{step}:{seen[step]}" == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    site = Site.resolve(Params(name=url, api_rate=1e6))
    async with Client(site) as client:
        await listing.run(
            listing.Params(page_size=100),
            personae.Params(min_images=20),
            Danbooru(client, site.base_url, identity="board"),
            folder,
            at=at,
        )


def forked(url, folder, kill):
    process = os.fork()
    if process == 0:
        code = 70
        try:
            asyncio.run(run(url, folder, kill))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(url, root, *kills):
    for number, kill in enumerate(kills):
        folder = Path(root) / str(number)
        ended = [forked(url, folder, kill), forked(url, folder, "")]
        sys.stdout.write(f"{kill} {ended}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
