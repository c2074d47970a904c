"""The same cells on a local dask cluster, with a worker killed on the way."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segalgos.bench.store import read_rows

pytest.importorskip("distributed", reason="dask is not installed: pip install 'segalgos[large]'")

HERE = Path(__file__).parent


def dask(environment, tmp_path, *arguments):
    # dask logs to standard error; a file cannot fill up as a pipe would
    with open(tmp_path / f"{arguments[0]}-{time.time_ns()}.log", "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            cwd=HERE,
            env=environment,
            stdout=log,
            stderr=log,
        )


@pytest.fixture
def cluster(environment, tmp_path):
    """Address of a scheduler and its two single-process workers."""
    about = tmp_path / "scheduler.json"
    options = ("--no-dashboard", "--scheduler-file", str(about))
    scheduler = dask(
        environment, tmp_path, "scheduler", "--host", "127.0.0.1", "--port", "0", *options
    )
    while not about.exists() or not about.read_text():
        assert scheduler.poll() is None
        time.sleep(0.05)
    address = json.loads(about.read_text())["address"]
    options = ("--no-nanny", "--nthreads", "1", "--no-dashboard")
    workers = [dask(environment, tmp_path, "worker", address, *options) for _ in range(2)]
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_killed_worker_loses_no_cell(cluster, environment, command, tiny, tmp_path):
    address, workers = cluster
    arguments = ("bench", "--data", tiny, "--methods", "hostile:Fine[wait=0.5]", "--seeds", "3")
    out = tmp_path / "cluster"
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "segalgos.cli", *arguments),
            *("--out", str(out), "--cluster", address),
        ],
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (out / "results.jsonl").exists():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    rows, _ = read_rows(out / "results.jsonl")
    assert sorted(row["seed"] for row in rows) == list(range(3))

    local = tmp_path / "local"
    command(*arguments, "--out", local)
    others, _ = read_rows(local / "results.jsonl")
    own = {row["key"]: row["views"] for row in rows}
    assert own == {row["key"]: row["views"] for row in others}
    assert set(rows[0]) == set(others[0])


def test_no_scheduler_is_said_plainly(command, tiny, tmp_path):
    done = command(
        *("bench", "--data", tiny, "--methods", "hostile:Fine", "--seeds", 1),
        *("--out", tmp_path, "--cluster", "tcp://127.0.0.1:9"),
    )
    assert done.returncode == 4
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
