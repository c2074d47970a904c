"""The runner against methods that misbehave, and against being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segalgos.bench.store import read_rows
from segalgos.files import write_image, write_labels

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks for processes in /proc"
)

HOSTILE = {
    "Fine": ("ok", ""),
    "Segfaults": ("crash", "killed by SIGSEGV"),
    "Hangs": ("timeout", "took more than 15 s"),
    "HangsAtExit": ("ok", ""),
    "EatsMemory": ("oom", "used more than 1.5 GB of memory"),
    "PrintsWithoutEnd": ("timeout", "took more than 15 s"),
    "PrintsALot": ("ok", ""),
    "WrongShape": ("invalid", "predict gave shape (3, 3)"),
    "WrongKind": ("invalid", "predict gave float64, expected an integer label map"),
    "Raises": ("error", "RuntimeError: the paper said it would work"),
    "LeavesSilently": ("crash", "left with exit code 0 and no result"),
    "LeavesChildren": ("ok", ""),
}


def processes_with(text: str) -> list[int]:
    """Processes whose command line holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def hostile_run(command, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("hostile")
    methods = ",".join(f"hostile:{name}" for name in HOSTILE)
    limits = ("--time-limit", "15s", "--memory-limit", "1.5GB")
    done = command(
        "bench", "--methods", methods, "--data", tiny, "--seeds", 1, "--out", out, *limits
    )
    rows, n_bad = read_rows(out / "results.jsonl")
    assert n_bad == 0
    return done, {row["method"]: row for row in rows}, out


def test_a_hostile_method_spoils_only_its_own_row(hostile_run):
    done, rows, _ = hostile_run
    assert list(rows) == list(HOSTILE)
    for name, (status, reason) in HOSTILE.items():
        assert rows[name]["status"] == status, (name, rows[name])
        assert reason in rows[name]["reason"]
    assert done.returncode == 3, done.stderr
    assert "failed: Segfaults" in done.stdout


def test_good_rows_hold_what_the_report_needs(hostile_run):
    row = hostile_run[1]["Fine"]
    assert row["views"]["partition"]["headline"] == "covering"
    assert 0 < row["views"]["partition"]["scores"]["covering"] < 1
    assert row["views"]["semantic"]["note"] == "oracle"
    assert np.shape(row["views"]["semantic"]["images"]["counts"])[:2] == (2, 3)
    assert len(row["image_names"]) == len(row["image_seconds"]) == row["n_images"] == 2
    assert row["peak_memory_mb"] > 20
    assert row["versions"]["numpy"] == np.__version__
    assert row["machine"]["cores"] == os.cpu_count()


def test_failed_rows_keep_the_end_of_the_output(hostile_run):
    rows = hostile_run[1]
    assert "the paper said" in rows["Raises"]["output_tail"]
    assert "no play" in rows["PrintsWithoutEnd"]["output_tail"]
    assert len(rows["PrintsWithoutEnd"]["output_tail"]) <= 8192
    assert "output_tail" not in rows["PrintsALot"]


def test_no_process_is_left(hostile_run):
    out = hostile_run[2]
    assert processes_with("segalgos-stray") == []
    assert processes_with(f"--out\0{out}") == []


def test_a_finished_run_is_not_run_again(hostile_run, command, tiny):
    _, _, out = hostile_run
    before = (out / "results.jsonl").read_bytes()
    arguments = ("--methods", "hostile:Fine,hostile:Segfaults", "--data", tiny, "--seeds", 1)
    limits = ("--time-limit", "15s", "--memory-limit", "1.5GB")
    done = command("bench", *arguments, "--out", out, *limits)
    assert done.returncode == 3
    assert (out / "results.jsonl").read_bytes() == before
    done = command("bench", *arguments, "--out", out, *limits, "--retry-failed")
    rows, _ = read_rows(out / "results.jsonl")
    assert [row["method"] for row in rows[len(HOSTILE) :]] == ["Segfaults"]


def start(environment, tiny, out, *more):
    # Cells work in TMPDIR, so that their processes can be told from others' by its name.
    (out / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "segalgos.cli", "bench", "--data", tiny),
            *("--methods", "hostile:Fine", "--out", str(out), *more),
        ],
        cwd=HERE,
        env={**environment, "TMPDIR": str(out / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Tests that run in the background may have been told to ignore Ctrl-C, and hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition, seconds=60):
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("n_kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_many_times_nothing_is_torn_lost_or_left(n_kills, environment, tiny, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "results.jsonl"
    known = []
    for i in range(n_kills):
        run = start(environment, tiny, tmp_path, "--seeds", "200")
        if i % 2:  # half of the kills come at any time, half around the end of a cell
            n = path.stat().st_size if path.exists() else 0
            assert wait_until(lambda n=n: path.exists() and path.stat().st_size > n)
        time.sleep(rng.uniform(0, 2))
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        assert wait_until(lambda: not processes_with(str(tmp_path)))
        text = path.read_text() if path.exists() else ""
        assert text == "" or text.endswith("\n")
        rows = [json.loads(line) for line in text.splitlines()]
        assert rows[: len(known)] == known  # what was finished stays as it was
        known = rows
    keys = [row["key"] for row in known]
    assert len(keys) == len(set(keys)) >= n_kills // 2  # and is not run again
    assert all(row["status"] == "ok" for row in known)


def test_ctrl_c_ends_cleanly_and_a_rerun_continues(environment, command, tiny, tmp_path):
    run = start(environment, tiny, tmp_path, "--seeds", "4")
    assert wait_until((tmp_path / "results.jsonl").exists)
    os.killpg(run.pid, signal.SIGINT)  # what a terminal does: the whole group hears it
    run.communicate(timeout=60)
    assert run.returncode == 130
    assert wait_until(lambda: not processes_with(str(tmp_path)))
    before, _ = read_rows(tmp_path / "results.jsonl")
    assert len(before) < 4
    done = command(
        "bench", "--data", tiny, "--methods", "hostile:Fine", "--out", tmp_path, "--seeds", 4
    )
    assert done.returncode == 0, done.stderr
    rows, _ = read_rows(tmp_path / "results.jsonl")
    assert rows[: len(before)] == before
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]


def test_a_folder_of_ones_own_goes_the_whole_way(command, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        image = rng.integers(0, 60, (40 + i, 50, 3)).astype(np.uint8)  # sizes differ
        mask = np.zeros(image.shape[:2], np.int32)
        mask[10:30, 5 + 3 * i : 25 + 3 * i] = 255
        image[mask == 255, 0] += 150
        write_image(tmp_path / "mine" / "images" / f"leaf {i}.png", image)
        write_labels(tmp_path / "mine" / "masks" / f"leaf {i}.png", mask)
    done = command(
        *("bench", "--data", tmp_path / "mine", "--methods", "kmeans,random_forest"),
        *("--seeds", 1, "--out", tmp_path / "out", "--json"),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    rows, _ = read_rows(answer["results"])
    assert [row["dataset"] for row in rows] == ["mine", "mine"]
    assert rows[1]["classes"] == ["value 0", "value 255"]
    assert rows[1]["views"]["semantic"]["scores"]["mean_iou_dataset"] > 0.8
    page = Path(answer["report"]).read_text(encoding="utf-8")
    assert "random_forest" in page
    assert list(Path(answer["report"]).parent.glob("pictures/*"))
