"""
Server faults, hostile images, hostile names and tampered files, through the commands themselves.

Each must end as a named refusal or error, or do no harm: no traceback, nothing lost beside it, no file
outside the data folder and no connection off the list. The commands run as processes of their own, whose
CPU time and memory are counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.shared import bad_files, bad_images, bad_names, bad_servers
from benchmarks.shared.bad_case import HARMLESS, BadCase
from benchmarks.shared.result import Result


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the bad inputs, and how many different ones the bar asks for."""

    run: Callable[[], list[BadCase]]
    least: int
    distinct: Callable[[BadCase], str] = lambda case: case.name


PARTS: Mapping[str, Part] = {
    "server faults": Part(bad_servers.run, 36, lambda case: case.name.partition(",")[0]),
    "hostile images": Part(bad_images.run, 200),
    "hostile names": Part(bad_names.run, 150),
    "tampered files": Part(bad_files.run, 120),
}


def row(cases: Sequence[BadCase]) -> dict[str, float]:
    """Returns the counts of the cases of one group, and what their commands needed at most."""
    problems = [problem for case in cases for problem in case.problems]
    sorts = Counter(problem.split(maxsplit=1)[0].strip(":") for problem in problems)
    harmless = sum(case.outcome == HARMLESS for case in cases)
    return {
        "cases": len(cases),
        "refused": len(cases) - harmless,
        "harmless": harmless,
        "tracebacks": sorts["traceback"],
        "lost": sorts["lost"],
        "escaped": sorts["escaped"],
        "otherwise_wrong": len(problems) - sum(sorts[n] for n in ("traceback", "lost", "escaped")),
        "most_mib": round(max(case.peak_mib for case in cases), 1),
        "most_cpu_seconds": round(max(case.cpu_seconds for case in cases), 2),
    }


def run() -> Result:
    """Returns the number of bad inputs that did what the bar allows; all must."""
    parts = {name: part.run() for name, part in PARTS.items()}
    cases = [case for part in parts.values() for case in part]
    groups: dict[str, list[BadCase]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    distinct = {name: len(set(map(PARTS[name].distinct, part))) for name, part in parts.items()}
    sound = sum(not case.problems for case in cases)
    is_enough = all(count >= PARTS[name].least for name, count in distinct.items())
    return Result(
        value=float(sound),
        unit=f"of {len(cases)} bad inputs refused by name or harmless",
        bar=f"{len(cases)}",
        ok=sound == len(cases) and is_enough,
        runs=[sum(not case.problems for case in group) / len(group) for group in groups.values()],
        details={
            "distinct": distinct,
            "least_distinct": {name: part.least for name, part in PARTS.items()},
            "groups": {name: row(group) for name, group in groups.items()},
            "reasons": {
                name: dict(Counter(map(_reason, group)).most_common())
                for name, group in groups.items()
            },
            "wrong": [
                f"{case.group}: {case.name!r}: {'; '.join(case.problems)}"
                for case in cases
                if case.problems
            ],
        },
    )


def _reason(case: BadCase) -> str:
    return "an error" if case.outcome.startswith("error: ") else case.outcome
