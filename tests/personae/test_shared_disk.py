"""Tests the check that all nodes share a disk, and the folder in which a task works."""

import os
from pathlib import Path

import pytest

from personae import shared_disk
from personae.errors import MissingInput


def test_relative_paths_start_in_the_folder_of_the_command(tmp_path: Path, monkeypatch) -> None:
    """A task that another folder is current for reads the file that the command means."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name.txt").write_text("of the command")
    with shared_disk.marked(Path("work")) as working:
        os.chdir("/")

        assert "of the command" == shared_disk.work(working, Path.read_text, Path("name.txt"))
    assert [] == list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("absent", ["mark", "folder"])
def test_a_node_without_the_disk_is_named(tmp_path: Path, absent: str) -> None:
    """A task on a node that does not see the files stops before it does anything."""
    paths = {"mark": str(tmp_path), "folder": str(tmp_path), absent: str(tmp_path / "nowhere")}
    with pytest.raises(MissingInput, match=r"Node \S+ does not see .*nowhere.* one shared disk"):
        shared_disk.work(shared_disk.WorkingFolder(**paths), print, "never")


def test_the_import_folders_are_none_of_python(tmp_path: Path, monkeypatch) -> None:
    """Workers import what this process imports, and the standard library and packages of their own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = shared_disk.import_folders()

    assert str(tmp_path.resolve()) == folders[0]
    assert not any("working-packages" in folder for folder in folders)
