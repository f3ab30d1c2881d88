"""Selections of tiny shards, and shards that hold the selected samples alone."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa

from personae import selection
from tests.train.conftest import add_member, write_manifest


def samples_of(shards: Path) -> list[dict]:
    """Returns the rows that samples.parquet has for the shards, in the order of the shards."""
    labels = json.loads((shards / "classes.json").read_text())["labels"]
    rows: list[dict] = []
    for entry in json.loads((shards / "manifest.json").read_text())["shards"]:
        with tarfile.open(shards / entry["shard"]) as archive:
            for member in archive:
                key, _, kind = member.name.partition(".")
                if kind == "png":
                    rows.append(
                        {
                            "post_id": int(key),
                            "split": entry["split"],
                            "shard": entry["shard"],
                            "offset": member.offset,
                            "image_offset": member.offset_data,
                            "image_bytes": member.size,
                        }
                    )
                elif kind == "json":
                    record = json.loads(archive.extractfile(member).read())
                    end = member.offset_data + -(-member.size // 512) * 512
                    rows[-1] |= {key: record[key] for key in ("leaf", "white_background")}
                    rows[-1] |= {"label": labels[record["leaf"]]}
                    rows[-1] |= {"sample_bytes": end - rows[-1]["offset"]}
    return rows


def select(shards: Path, path: Path, keep) -> str:
    """Writes the selection of the rows for which `keep` is true; returns its reference."""
    root = json.loads((shards / "manifest.json").read_text())["root_sha256"]
    rows = [row for row in samples_of(shards) if keep(row)]
    chosen = selection.SampleSelection(
        pa.Table.from_pylist(rows, schema=selection.SCHEMA),
        selection.SelectionOrigin(root_sha256=root, query="SELECT …"),
    )
    selection.write(path, chosen)
    return chosen.reference(path)


def alone(shards: Path, folder: Path, keep) -> Path:
    """Writes shards with the selected samples only; the other labels leave the label set."""
    rows = {row["post_id"]: row for row in samples_of(shards) if keep(row)}
    known = sorted({row["leaf"] for row in rows.values()})
    labels = json.loads((shards / "classes.json").read_text())["labels"]
    folder.mkdir(parents=True)
    entries = []
    for entry in json.loads((shards / "manifest.json").read_text())["shards"]:
        count = 0
        with (
            tarfile.open(shards / entry["shard"]) as archive,
            tarfile.open(folder / entry["shard"], "w", format=tarfile.USTAR_FORMAT) as written,
        ):
            for member in archive:
                key, _, kind = member.name.partition(".")
                if int(key) not in rows:
                    continue
                content = archive.extractfile(member).read()
                leaf = known.index(rows[int(key)]["leaf"])
                if kind == "cls":
                    content = str(leaf).encode()
                elif kind == "json":
                    content = json.dumps(json.loads(content) | {"leaf": leaf}).encode()
                    count += 1
                add_member(written, member.name, content)
        entries.append({"shard": entry["shard"], "split": entry["split"], "samples": count})
    write_manifest(folder, entries)
    (folder / "classes.json").write_text(json.dumps({"labels": [labels[leaf] for leaf in known]}))
    return folder
