"""Run the command as a user would, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import segalgos

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny():
    """Two images of the smallest data set: a cell is then hardly more than its imports."""
    return "shapes[n_images=2, size=(32, 40)]"


@pytest.fixture(scope="session")
def environment():
    """Environment in which the library is importable from anywhere."""
    package = str(Path(segalgos.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}


@pytest.fixture(scope="session")
def command(environment):
    """``command("bench", ...)``: the finished process; cwd holds hostile.py."""

    def run(*arguments, cwd=HERE):
        return subprocess.run(
            [sys.executable, "-m", "segalgos.cli", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run
