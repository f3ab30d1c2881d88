"""
`python docs/fill_readme.py`: writes the parts of README.md and experiments.md that are made.

The tree comes from the first line of each module's docstring, result tables from the committed
files of `experiments/` and `benchmarks/results/`, queries from `docs/queries.sql` with their
output on the catalog at hand (kept as they stand where there is no catalog).
"""

import ast
import json
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "experiments.md")
CATALOG = ROOT / "data" / "catalog" / "catalog.duckdb"
TOP = {
    "pyproject.toml": "dependencies with their reasons, ruff, mypy, pytest, import contracts",
    "Makefile": "`make repro`, `make test`, `make preset`, `make bench`",
    "params.yaml": "every number a person may change, one section per stage or method",
    "dvc.yaml": "the pipeline, top to bottom",
}
FOLDERS = {
    "scraper": "posts and images from a Danbooru-style board, politely, with reasons",
    "curation": "from posts and images to balanced shards and a catalog",
    "train": "flat and hierarchical classifiers over the shards",
}
REST = {
    "presets/": "whole params files; `make preset NAME=…`",
    "tests/": "mirrors the packages, plus names, documents and the whole chain",
    "benchmarks/": "`python -m benchmarks NAME`; results with machine, versions and commit",
    "experiments/": "figures worth keeping: PRESET/RUN-SEED.json",
    "docs/": "images, file formats, the ten queries, every recorded run",
}
COMPARED = {  # presets side by side, and what each is of
    "methods": "demo",
    "illustrations": "illustrations",
    "cifar100_small": "CIFAR-100",
    "cifar100_resnet20": "CIFAR-100, ResNet-20",
}
METHODS = ("uppsala", "hiernet", "hdcnn", "merged", "dhnn")
CONTROLS = {
    "": "",
    "_random": "its random groups",
    "_train_flops": "flat, its operations of training",
    "_macs": "flat, its operations of prediction",
}


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, without the command that starts it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split())
    line = re.sub(r"^`[^`]*`: ?", "", line)
    return re.sub(r"\.$", "", re.split(r"(?<=\.) ", line)[0])


def tree() -> str:
    """Every source file once, with its own one line."""
    lines = [f"{name:<26}{text}" for name, text in TOP.items()]
    for package, text in FOLDERS.items():
        lines += ["", f"{package + '/':<26}{text}"]
        for path in sorted((ROOT / package).rglob("*.py"), key=lambda p: (p.parent, p.name)):
            if path.name != "__init__.py" or path.stat().st_size:
                name = path.relative_to(ROOT / package).as_posix()
                lines.append(f"  {name:<24}{' ' if len(name) > 23 else ''}{first_line(path)}")
    lines += ["", *(f"{name:<26}{text}" for name, text in REST.items())]
    return "```text\n" + "\n".join(lines) + "\n```"


def recorded(preset: str) -> dict[str, list[dict]]:
    """The records of each run under `experiments/PRESET`, one a seed."""
    records = defaultdict(list)
    for path in sorted((ROOT / "experiments" / preset).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records[record["run"]].append(record)
    return records


def table(columns: tuple[str, ...], rows: list[list]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def comparison() -> str:
    """Each method and its controls on each data set: success, points over flat, seeds."""
    found = {name: records for name in COMPARED if (records := recorded(name))}
    runs = {"flat": ""} | {
        f"{method}{ending}": told for method in METHODS for ending, told in CONTROLS.items()
    }
    rows = []
    for run, told in runs.items():
        cells = [_cell(records, run) for records in found.values()]
        if any(cells):
            rows.append([f"`{run}`", told, *cells])
        if run in METHODS:
            cells = [_cell(records, run, of="msr_full") for records in found.values()]
            rows.append(["", "in full", *cells])
    lines = [
        table(("run", "", *(COMPARED[name] for name in found)), rows),
        "",
        (
            "Success (MSR) in %, ± its standard deviation over seeds where there are several; in "
            "brackets the points gained over the flat network of the same seed, and how many seeds. "
            "*In full*: every network of a tree, every component, the sum along every path; of "
            "`merged` the product of what is said of category and label. "
            "All runs, with costs, commands and commits: [docs/experiments.md](docs/experiments.md)."
        ),
    ]
    return "\n".join(lines)


def _cell(records: dict[str, list[dict]], run: str, *, of: str = "msr") -> str:
    if run not in records:
        return ""
    success = _spread([100 * record["metrics"][of] for record in records[run]])
    if run == "flat":
        return f"{success} ({len(records[run])})"
    return f"{success} ({_gain(records, run, of=of):+.1f}; {len(records[run])})"


def _gain(records: dict[str, list[dict]], run: str, *, of: str = "msr") -> float:
    """Points gained over the flat network of the same seed, the mean over seeds."""
    flat = {record["seed"]: record["metrics"]["msr"] for record in records["flat"]}
    return statistics.mean(
        100 * (record["metrics"][of] - flat[record["seed"]]) for record in records[run]
    )


def results(preset: str) -> str:
    """One row per run, over the seeds recorded under `experiments/PRESET`."""
    records = recorded(preset)
    if not records:
        return ""
    some = next(iter(records.values()))[0]
    samples = some["data"]["samples"]
    commits = sorted({one["commit"] for found in records.values() for one in found})
    # Where images are judged with their mirror image too, that stands in place of white ones.
    second, name = (
        ("msr_mirrored", "with mirror image %")
        if "msr_mirrored" in some["metrics"]
        else ("msr_white", "white MSR %")
    )
    columns = (
        "run",
        "seeds",
        "MSR %",
        "less flat",
        name,
        "n test",
        "E[MAC] / flat",
        "training s",
        "critical path s",
    )
    rows = []
    macs = statistics.mean(r["metrics"]["macs_expected"] for r in records["flat"])
    for run in sorted(records, key=lambda name: (name != "flat", name)):
        metrics = [record["metrics"] for record in records[run]]
        msr = [100 * m["msr"] for m in metrics]
        other = [100 * m[second] for m in metrics if m.get(second) is not None]
        gain = "" if run == "flat" else f"{_gain(records, run):+.1f}"
        rows.append(
            [
                f"`{run}`",
                len(msr),
                _spread(msr),
                gain,
                _spread(other),
                metrics[0]["n_test"],
                f"{statistics.mean(m['macs_expected'] for m in metrics) / macs:.3f}",
                f"{statistics.mean(m['seconds_total'] for m in metrics):.0f}",
                f"{statistics.mean(m['seconds_critical'] for m in metrics):.0f}",
            ]
        )
    lines = [
        table(columns, rows),
        "",
        (
            f"{some['data']['labels']} labels, {samples['train']} / {samples['val']} / {samples['test']} "
            f"images for training / validation / test at {some['data']['image']['side']} pixels; "
            f"± is the standard deviation over seeds, *less flat* the mean of points gained over the "
            f"flat network of the same seed. Made by "
            f"{' and '.join(f'`{command}`' for command in _of_any_seed(some['commands']))} on "
            f"{some['machine']['cpu_cores']} "
            f"{some['machine']['architecture']} cores at commit {', '.join(commits)}; "
            f"files in `experiments/{preset}/`."
        ),
    ]
    return "\n".join(lines)


def _of_any_seed(commands: list[str]) -> list[str]:
    """The commands of one seed's record as those of all, each once."""
    return list(dict.fromkeys(re.sub(r"--seed \d+", "--seed SEED", one) for one in commands))


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def benches() -> str:
    """One row per committed benchmark result; a missed bar stays in the table."""
    rows = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.append(
            [
                f"`{path.stem}`",
                f"{found['value']:.3g} {found['unit']}",
                found["bar"],
                "yes" if found["ok"] else "**no**",
                found["commit"],
            ]
        )
    return table(("benchmark", "value", "bar", "met", "commit"), rows)


def measured(benchmark: str) -> dict[str, dict]:
    """The details of a benchmark's committed result for each data set that it was run on."""
    found = {}
    for preset, told in COMPARED.items():
        path = ROOT / "benchmarks" / "results" / f"{benchmark}-{preset}.json"
        if path.exists():
            found[told] = json.loads(path.read_text(encoding="utf-8"))["details"]
    return found


def averaging() -> str:
    """What conditional execution and compression of HD-CNN save and lose, one row a data set."""
    smaller, rows = measured("compression"), []
    for told, details in measured("conditional").items():
        seeds = details["seeds"]
        chosen = [next(row for row in one["curve"] if row["beta"] == one["beta"]) for one in seeds]
        packed = [one["chosen"] for one in smaller.get(told, {}).get("seeds", ()) if one["chosen"]]
        rows.append(
            [
                told,
                len(seeds),
                _range([one["components"] for one in seeds]),
                _range([one["beta"] for one in seeds]),
                _spread([100 * one["share"] for one in seeds]),
                _spread([100 * one["loss"] for one in seeds]),
                _milliseconds(chosen),
                _milliseconds([one["curve"][-1] for one in seeds]),
                _range([one["codebook"] for one in packed]),
                _spread([100 * one["loss"] for one in packed]),
            ]
        )
    columns = (
        "data",
        "seeds",
        "components",
        "beta",
        "of their operations, %",
        "points lost",
        "ms an image, alone / of 256",
        "ms with all components",
        "codebook of factor 4",
        "points lost by it",
    )
    return table(columns, rows)


def _range(values: list[float]) -> str:
    """One value, or the least and the most."""
    ends = [min(values), max(values)] if values else []
    return " to ".join(dict.fromkeys(f"{value:g}" for value in ends))


def _milliseconds(rows: list[dict]) -> str:
    found = (
        statistics.mean(
            one["latency"][at]["median_ms"] / one["latency"][at]["batch"] for one in rows
        )
        for at in (0, 1)
    )
    return " / ".join(f"{value:.2f}" for value in found)


def adapted() -> str:
    """Merged networks: success at some alphas, and training beside two networks apart."""
    rows = []
    for told, details in measured("adaptation").items():
        for run, seeds in details["runs"].items():
            success = [
                _mean([100 * one["test"][level][alpha] for one in seeds.values()])
                for level in ("fine", "coarse")
                for alpha in ("0.0", "1.0", "2.0", "chosen")
            ]
            training = [
                f"{details['training'][run][name]:.2f}" if name in details["training"][run] else ""
                for name in ("seconds_ratio", "flops_ratio")
            ]
            rows.append([told, f"`{run}`", len(seeds), *success, *training])
    columns = (
        "data",
        "run",
        "seeds",
        "labels, %: alpha 0",
        "1",
        "2",
        "chosen",
        "categories, %: alpha 0",
        "1",
        "2",
        "chosen",
        "seconds / two apart",
        "operations / two apart",
    )
    return table(columns, rows)


def decoded() -> str:
    """DHNN: success against the beam's width, and its steps without the tree."""
    rows = []
    for told, details in measured("beam").items():
        for run, seeds in details["runs"].items():
            curves = zip(*(one["curve"] for one in seeds.values()), strict=True)
            free = [one["free"] for one in seeds.values() if one["free"]]
            rows.append(
                [
                    told,
                    f"`{run}`",
                    len(seeds),
                    *(_mean([100 * row["accuracy"] for row in each]) for each in curves),
                    *(
                        _mean([100 * one[name] for one in free])
                        for name in ("paths", "paths_right")
                    ),
                ]
            )
    columns = (
        "data",
        "run",
        "seeds",
        "width 1, %",
        "2",
        "4",
        "8",
        "all",
        "without the tree: paths, %",
        "right paths, %",
    )
    return table(columns, rows)


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f}" if values else ""


def queries() -> str | None:
    """Each query of `docs/queries.sql` with its output; None without a catalog."""
    if not CATALOG.exists():
        return None
    parts = []
    for title, query in split_queries():
        done = subprocess.run(
            [sys.executable, "-m", "curation", "query", query, "--limit", "6"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        parts.append(f"{title}\n\n```sql\n{query}\n```\n\n```text\n{done.stdout.rstrip()}\n```")
    return "\n\n".join(parts)


def split_queries() -> list[tuple[str, str]]:
    """Title and text of each query: a comment line, then SQL up to the semicolon."""
    text = (ROOT / "docs" / "queries.sql").read_text(encoding="utf-8")
    found = re.findall(r"^-- (.+)\n((?:(?!--).*\n)*?.*;)$", text, flags=re.MULTILINE)
    return [(title.strip(), query.strip()) for title, query in found]


def sections() -> dict[str, str | None]:
    """What stands between each pair of markers."""
    return {
        "tree": tree(),
        "comparison": comparison(),
        **{f"results:{one.name}": results(one.name) for one in (ROOT / "experiments").iterdir()},
        "averaging": averaging(),
        "adapted": adapted(),
        "decoded": decoded(),
        "benchmarks": benches(),
        "queries": queries(),
    }


def fill(text: str, parts: dict[str, str | None]) -> str:
    """`text` with each marked section replaced; a None leaves it as it stands."""
    for name, part in parts.items():
        if part is not None:
            end = name.split(":")[0]
            pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{end} -->)"
            body = f"{part}\n" if part else ""
            text = re.sub(pattern, lambda m, body=body: m[1] + body + m[2], text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    made = sections()
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text(encoding="utf-8"), made), encoding="utf-8")
