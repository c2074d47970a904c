"""Fixtures shared by the whole tree."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Keep each process of a run to its part of the cores.

    Threads that spin while they wait for a core make nets seven times as slow. Libraries read
    these when they are imported, which is later.
    """
    n_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_processes)))


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
