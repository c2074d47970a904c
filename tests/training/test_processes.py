"""Training by several processes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segalgos.training.processes import LAUNCHED, Processes, launched_device  # noqa: E402

SCRIPT = """
import json, os, sys
import numpy as np
import torch
import segalgos

rng = np.random.default_rng(0)
images = [rng.random((24, 24, 3), dtype=np.float32) for _ in range(4)]
labels = [(image[..., 0] > 0.5).astype(int) for image in images]
rank = os.environ.get("RANK", "0")
told = []
net = segalgos.UNetSegmenter(
    base_channels=4, depth=1, padding="same", batch_norm=True, crop_size=16, batch_size=8,
    validation_fraction=0.25, epochs=2, ema_decay=0.9, checkpoint=sys.argv[1] + "/checkpoint",
    on_epoch_end=told.append, random_state=json.loads(sys.argv[2]),
)
net.fit(images, labels)
weights = torch.cat([v.float().reshape(-1) for v in net.network_.state_dict().values()])
np.save(f"{sys.argv[1]}/weights{rank}.npy", weights.numpy())
with open(f"{sys.argv[1]}/told{rank}.json", "w") as file:
    json.dump([told, net.history_], file)
"""


def launch(folder, n_processes, seed="0"):
    """Fit in a script, started as its user would, and read what each process wrote."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable]
    if n_processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += [
            *("-m", "torch.distributed.run", "--nproc_per_node", str(n_processes)),
            *("--master_addr", "127.0.0.1", "--master_port", str(port)),
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    if sys.platform == "linux":  # a machine's name need not be known to any network
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    done = subprocess.run(
        [*command, str(script), str(folder), seed],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = [np.load(folder / f"weights{rank}.npy") for rank in range(n_processes)]
    told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(n_processes)]
    return weights, told


def test_two_processes_train_as_one_does(tmp_path):
    pytest.importorskip("accelerate")
    (alone,), _ = launch(tmp_path / "one", 1)
    (first, second), told = launch(tmp_path / "two", 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, atol=2e-4)
    assert [len(rows) for rows, _ in told] == [2, 0]  # the first alone tells
    assert told[0][1] == told[1][1]
    # Again, from the checkpoint of what is finished: nothing is trained anew.
    (again, other), _ = launch(tmp_path / "two", 2)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(other, first)


@pytest.mark.slow
def test_processes_with_seeds_of_their_own_begin_alike(tmp_path):
    pytest.importorskip("accelerate")
    (first, second), _ = launch(tmp_path, 2, seed="null")
    np.testing.assert_array_equal(first, second)


def test_alone_nothing_is_exchanged(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    processes = Processes()
    assert (processes.rank, processes.count) == (0, 1)
    assert launched_device() is None
    value = {"a": [1, None]}
    assert processes.agree(value) is value
    (tensor,) = processes.add_up([torch.ones(2)])
    assert tensor.tolist() == [1, 1]
    assert list(processes.own(3)) == [0, 1, 2]


def test_parts_are_shared_out():
    processes = Processes()
    processes.rank, processes.count = 1, 3
    assert list(processes.own(8)) == [1, 4, 7]
    with pytest.raises(ValueError, match="3 processes share a batch of 2 parts"):
        processes.own(2)


def test_a_batch_system_that_is_no_launcher_of_torch_is_let_be(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Processes().count == 1
