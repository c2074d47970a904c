"""Fixtures shared by the whole tree."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def _existing(path: Path, what: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"{what} is not here: set SEGALGOS_DATA to the folder of the data sets")
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets."""
    return _existing(Path(os.environ.get("SEGALGOS_DATA", SHARED / "data")), "real data")


@pytest.fixture(scope="session")
def bsds_selftest_root(data_root) -> Path:
    """Folder of the BSDS500 benchmark's own self-test."""
    return _existing(data_root.parent / "bsds500_selftest", "the BSDS500 self-test")
