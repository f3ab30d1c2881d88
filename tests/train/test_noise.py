"""The command `noise`: planted wrong labels, folds, resume, relabel.csv, and messages."""

import csv
import json
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import exclusions
from personae.errors import AlreadyRunning
from scraper import relabel
from tests.train.conftest import LABELS, add_member, write_manifest, write_shards
from tests.train.selection_fixture import samples_of, select
from train import noise
from train.__main__ import main

PARAMS = """
seeds: [0]
data: {batch_size: 16}
augment: {rotation: 0, zoom: 1, shift: 0, flip: none}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, dropout: 0, noise: 0, init: he}
loop: {epochs: 12, lr: 0.1, threads: 1, device: cpu, label_smoothing: 0, ema: 0.5}
"""
FOLDS = 3
IN_NO_FOLD = 7  # a post that is linked to several folds


def swap(shards, wrong):
    """Gives the posts of `wrong` another leaf in the shards: a planted error."""
    manifest = json.loads((shards / "manifest.json").read_text())
    for entry in manifest["shards"]:
        path = shards / entry["shard"]
        with tarfile.open(path) as archive:
            members = [(member.name, archive.extractfile(member).read()) for member in archive]
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in members:
                key, _, kind = name.partition(".")
                leaf = wrong.get(int(key))
                if leaf is None or kind == "png":
                    add_member(archive, name, content)
                elif kind == "cls":
                    add_member(archive, name, str(leaf).encode())
                else:
                    record = json.loads(content) | {"leaf": leaf}
                    add_member(archive, name, json.dumps(record).encode())
    write_manifest(shards, manifest["shards"])


def write_split(data, rows, *, folds=True):
    kinds = {"post_id": pa.int64(), "label": pa.string(), "split": pa.string()}
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    if folds:
        columns["fold"] = pa.array(
            [
                None
                if row["split"] == "test" or row["post_id"] == IN_NO_FOLD
                else row["post_id"] % FOLDS
                for row in rows
            ],
            pa.int32(),
        )
    (data / "split").mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), data / "split" / "split.parquet")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes params.yaml, shards with 18 train and six val images per label, and folds."""
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    shards = write_shards(tmp_path / "data" / "shards", {"train": 18, "val": 6, "test": 1})
    write_split(tmp_path / "data", samples_of(shards))
    pq.write_table(pa.Table.from_pylist(samples_of(shards)), shards / "samples.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(project):
    return pq.read_table(project / "results" / "noise" / "noise.parquet")


def relabel_rows(project):
    with (project / "results" / "noise" / "relabel.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_planted_labels_rank_on_top(project, capsys):
    """Of each label the planted errors are the most doubted samples, in both splits."""
    shards = project / "data" / "shards"
    rows = [row for row in samples_of(shards) if row["post_id"] != IN_NO_FOLD]
    wrong = {}
    for leaf in range(4):
        for split in ("train", "val"):
            posts = [row["post_id"] for row in rows if (row["leaf"], row["split"]) == (leaf, split)]
            wrong[posts[2]] = (leaf + 1) % 4
    swap(shards, wrong)

    assert main(["noise"]) == 0

    assert f"{project / 'results' / 'noise'}".endswith(capsys.readouterr().out.strip())
    table = results(project).to_pylist()
    assert noise.SCHEMA.names == list(table[0])
    top = [row for row in table if row["rank"] < 2]
    assert set(wrong) == {row["post_id"] for row in top}
    suspects = [row for row in table if row["is_suspect"]]
    assert {row["post_id"] for row in suspects} <= set(wrong)
    assert len(suspects) >= 6
    assert {"train", "val"} == {row["split"] for row in top}
    right = {post: LABELS[(leaf - 1) % 4] for post, leaf in wrong.items()}
    assert sum(right[row["post_id"]] == row["predicted"] for row in top) >= 7
    # One row for each sample that has a fold, the label as it is in the shards.
    assert {row["post_id"] for row in rows if row["split"] != "test"} == {
        row["post_id"] for row in table
    }
    assert all(LABELS[wrong[row["post_id"]]] == row["label"] for row in top)
    assert all(row["post_id"] % FOLDS == row["fold"] for row in table)
    for label in LABELS:
        of_label = [row for row in table if row["label"] == label]
        confidences = [row["self_confidence"] for row in of_label]
        assert sorted(confidences) == confidences
        assert list(range(len(of_label))) == [row["rank"] for row in of_label]
        mean = np.mean([row["self_confidence"] for row in of_label])
        assert np.allclose(mean, [row["threshold"] for row in of_label])
    assert [str(row["post_id"]) for row in suspects] == [
        row["post_id"] for row in relabel_rows(project)
    ]


def test_no_network_sees_its_fold(project, monkeypatch):
    """Each fold is predicted by a network trained and validated on the other folds alone."""
    seen = []
    fit = noise.saved.METHODS["flat"].Classifier.fit

    def watched(self, data, trainer, **arguments):
        seen.append((set(data.train.post_ids.tolist()), set(data.val.post_ids.tolist())))
        return fit(self, data, trainer, **arguments)

    monkeypatch.setattr(noise.saved.METHODS["flat"].Classifier, "fit", watched)
    rows = samples_of(project / "data" / "shards")
    known = {row["post_id"] for row in rows if row["split"] != "test"} - {IN_NO_FOLD}
    val = {row["post_id"] for row in rows if row["split"] == "val"}

    assert main(["noise", "--epochs", "1"]) == 0
    assert [
        ({post for post in known if post % FOLDS != fold}, {p for p in val if p % FOLDS != fold})
        for fold in range(FOLDS)
    ] == seen

    seen.clear()  # a recipe that chooses its epoch on val does not train on it
    assert main(["noise", "--epochs", "1", "--recipe", "report"]) == 0
    assert [{post for post in known - val if post % FOLDS != fold} for fold in range(FOLDS)] == [
        train for train, _ in seen
    ]

    seen.clear()  # half of the images of each label, as in every other training
    assert main(["noise", "--epochs", "1", "--share", "0.5"]) == 0
    leaf_of = {row["post_id"]: row["leaf"] for row in rows}
    for fold, (train, _) in enumerate(seen):
        whole = Counter(leaf_of[post] for post in known if post % FOLDS != fold)
        assert {leaf: round(0.5 * count) for leaf, count in whole.items()} == Counter(
            leaf_of[post] for post in train
        )


def test_finished_folds_are_kept(project, monkeypatch):
    """A run that ended in its last fold trains that fold alone, and gives the same table."""
    options = ["noise", "--epochs", "1"]
    assert main(options) == 0
    whole = results(project)
    kept = sorted((project / "work" / "noise").glob("*.npy"))
    assert ["0", "1", "2"] == [path.name.split("-")[0] for path in kept]
    kept[1].write_bytes(b"damaged")
    kept[2].unlink()
    fit, trained = noise.saved.METHODS["flat"].Classifier.fit, []

    def watched(self, data, trainer, **arguments):
        trained.append(trainer.work_dir.name)
        return fit(self, data, trainer, **arguments)

    monkeypatch.setattr(noise.saved.METHODS["flat"].Classifier, "fit", watched)
    assert main([*options, "--storage", "stream"]) == 0
    assert [path.stem for path in kept[1:]] == trained
    assert whole.equals(results(project))

    trained.clear()
    assert main([*options, "--seed", "1"]) == 0
    assert 3 == len(trained)


def test_actions_of_a_person_are_kept(project):
    """A second run keeps what a person wrote, also for posts that are no suspects any more."""
    folder = project / "results" / "noise"
    assert main(["noise", "--epochs", "1"]) == 0
    suspect = relabel_rows(project)[0]
    folder.joinpath("relabel.csv").write_text(
        f"\ufeffpost_id,action,label,predicted\n{suspect['post_id']},exclude,ann,bea\n"
        "999999,keep,ann,bea\n3,,ann,bea\n",
        encoding="utf-8",
    )

    assert main(["noise", "--epochs", "1"]) == 0

    actions = {row["post_id"]: row["action"] for row in relabel_rows(project) if row["action"]}
    assert {suspect["post_id"]: "exclude", "999999": "keep"} == actions


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("post_id;action\n1;exclude\n", "column action is absent; columns are divided by commas"),
        ("post_id,action\nx,exclude\n", "invalid literal"),
    ],
)
def test_unreadable_actions_stop_before_training(project, capsys, content, message):
    """A file of actions that cannot be read stays as it is."""
    path = project / "results" / "noise" / "relabel.csv"
    path.parent.mkdir(parents=True)
    path.write_text(content)

    assert main(["noise"]) == 5
    assert message in capsys.readouterr().err
    assert content == path.read_text()
    assert not (project / "work").exists()


def test_labels_are_harmless_cells(project):
    """A label that is a formula, or has a line break, is one plain cell of relabel.csv."""
    samples = noise.FoldedSamples(
        ("=cmd()", "a\n5,exclude"),
        16,
        "0" * 64,
        noise.ImageSet(
            np.zeros((3, 16, 16, 3), np.uint8),
            np.array([0, 0, 1]),
            np.array([11, 12, 13]),
            np.zeros(3, bool),
        ),
        np.array([0, 1, 0]),
        np.zeros(3, bool),
    )
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]], dtype=np.float32)
    text = noise._relabel(noise._table(samples, probabilities), {})

    assert ["post_id,action,label,predicted", '12,,\'=cmd(),"a·5,exclude"'] == text.splitlines()


def test_program_of_the_docs_turns_actions_into_lines(project):
    """The program of docs/noise.md adds a line for each `exclude` and `relabel`, whatever the labels."""
    page = (Path(__file__).parents[2] / "docs" / "noise.md").read_text(encoding="utf-8")
    program = page.partition("python - <<'END'\n")[2].partition("END\n")[0]
    path = project / "results" / "noise" / "relabel.csv"
    path.parent.mkdir(parents=True)
    path.write_text(
        'post_id,action,label,predicted\r\n11,exclude,"a,b","c,exclude"\r\n'
        '12,,"exclude,exclude",ann\r\n13,keep,ann,bea\r\n14,exclude,ann,bea\r\n'
        '15,relabel,ann,"b, ea"\r\n',
        newline="",
    )
    (project / "exclude.txt").write_text("tag sketch  # too rough\n")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=project)

    rules = [(rule.key, rule.why) for rule in exclusions.read(project / "exclude.txt")]
    noisy = [(f"post {post}", "label noise") for post in (11, 14)]
    assert [("tag sketch", "too rough"), *noisy] == rules
    assert {15: "b, ea"} == relabel.read(project / "relabel.txt")


def test_split_without_folds_is_an_error(project, capsys):
    """The message names the parameter and the command."""
    write_split(project / "data", samples_of(project / "data" / "shards"), folds=False)

    assert main(["noise"]) == 2
    assert "Set split.folds: 5 in params.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--side", "32"], 5, "the shards hold images of 16 pixels"),
        (["--batch-size", "1"], 2, "data.batch_size is 1"),
    ],
)
def test_wrong_parameter_stops_before_training(project, capsys, options, code, message):
    """What `flat` refuses is refused here too."""
    assert main(["noise", *options]) == code
    assert message in capsys.readouterr().err
    assert not (project / "results").exists()


@pytest.mark.parametrize("change", ["absent", "empty", "test"])
def test_split_of_another_run_is_an_error(project, capsys, change):
    """Every sample of the shards must be in train or val of split.parquet."""
    rows = samples_of(project / "data" / "shards")
    train = next(row for row in rows if row["split"] == "train")
    kept = [] if change == "empty" else [row for row in rows if row is not train]
    write_split(project / "data", [*kept, train | {"split": "test"}] if change == "test" else kept)

    assert main(["noise"]) == 5
    assert "Run stages 'split' and 'shards' again" in capsys.readouterr().err


def test_fold_with_all_samples_of_a_label_is_an_error(project, capsys):
    """A selection may leave a label in one fold alone."""
    shards = project / "data" / "shards"
    reference = select(
        shards,
        project / "chosen.parquet",
        lambda row: row["leaf"] or row["split"] == "test" or row["post_id"] % FOLDS == 1,
    )

    assert main(["noise", "--selection", reference]) == 2
    assert "Without fold 1 no training samples of 'ann' are left" in capsys.readouterr().err


def test_two_at_once_are_refused(project, capsys):
    """The second of two processes ends with code 3."""
    with noise.files.locked(project / "work" / "noise"):
        assert main(["noise", "--epochs", "1"]) == AlreadyRunning.exit_code
    assert not (project / "results" / "noise").exists()
    shutil.rmtree(project / "work")
