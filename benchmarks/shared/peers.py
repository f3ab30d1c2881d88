"""A virtual environment for each peer, because their pinned packages exclude each other and ours."""

import subprocess
import sys
from pathlib import Path


def environment(*packages: str) -> Path:
    """Returns the `bin` folder of an environment with `packages`, made once in work/peers/."""
    folder = Path("work/peers").absolute() / packages[0].replace("==", "-")
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [folder / "bin/pip", "install", "--quiet", *packages]
        subprocess.run(list(map(str, command)), check=True)
        (folder / "ready").touch()
    return folder / "bin"
