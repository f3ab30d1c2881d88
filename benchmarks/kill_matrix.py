"""
Kills commands with SIGKILL, or cuts their power, and runs the same command again.

Each part returns its kills: at random times of separate processes, before, within and after each
operation that changes the disk, and during recovery. The outcome of each must equal that of an unbroken
run. A program that commits before it syncs must fail: otherwise the matrix would prove nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from benchmarks.shared import curation_kills, scraper_kills
from benchmarks.shared.kills import Kill
from benchmarks.shared.result import Result

PARTS: Mapping[str, Callable[[], list[Kill]]] = {
    "scraper": scraper_kills.run,
    "curation": curation_kills.run,
}


def run() -> Result:
    """Returns the number of kills with an equal outcome; all must have it."""
    kills = [(part, kill) for part, function in PARTS.items() for kill in function()]
    sound = [(part, kill) for part, kill in kills if kill.group != "exchanged"]
    defects = [kill for _, kill in kills if kill.group == "exchanged"]
    equal = [float(not kill.problems) for _, kill in sound]
    return Result(
        value=sum(equal),
        unit=f"of {len(sound)} kills with an equal outcome",
        bar=f"{len(sound)}",
        ok=all(equal) and bool(defects) and all(kill.problems for kill in defects),
        runs=equal,
        peer="an unbroken run",
        details={
            "kills": dict(Counter(f"{part}, {kill.group}" for part, kill in sound)),
            "unequal": [
                f"{part}: {kill.where}: {'; '.join(kill.problems)}"
                for part, kill in sound
                if kill.problems
            ],
            "commit_before_sync": [
                f"{kill.where}: {'; '.join(kill.problems) or 'NOT NOTICED'}" for kill in defects
            ],
            "operations": sorted({kill.where for _, kill in sound if kill.group == "named"}),
        },
    )
