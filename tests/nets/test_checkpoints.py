import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segalgos.nets.checkpoints import load_weights, read_weights, rename_weights


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.fixture
def weights(network):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(tensor.shape, generator=generator).to(tensor.dtype)
        for name, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", None])
def test_weights_are_loaded(tmp_path, network, weights, suffix):
    source = weights if suffix is None else tmp_path / f"weights{suffix}"
    if suffix is not None:
        (save_file if suffix == ".safetensors" else torch.save)(weights, source)
    load_weights(network, source)
    assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.weight"), r"misses 1 of the network's names \(0\.weight\)"),
        (lambda w: w.update(extra=torch.ones(1)), r"has left over 1 .* \(extra\)"),
        (lambda w: w.update({"0.bias": torch.ones(3)}), r"0\.bias has shape \(3,\) .* \(2,\) here"),
        (lambda w: w["0.bias"].fill_(float("nan")), r"0\.bias holds NaN"),
    ],
    ids=["missing", "left over", "shape", "nan"],
)
def test_other_weights_are_refused_and_nothing_is_changed(network, weights, change, message):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    change(weights)
    with pytest.raises(ValueError, match=message):
        load_weights(network, weights)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_file_runs_nothing(tmp_path):
    torch.save({"0.weight": Hostile(tmp_path / "harm")}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt is damaged, or holds more than weights"):
        read_weights(tmp_path / "weights.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80" * 100])
def test_damaged_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(path)


def test_other_things_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_weights(tmp_path / "none.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="holds a Tensor, expected a state dict"):
        read_weights(tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="holds more than tensors by name"):
        read_weights({"epoch": 3})


def test_a_state_dict_beside_settings_is_taken_out(tmp_path, weights):
    torch.save({"meta": {"epoch": 3}, "state_dict": weights}, tmp_path / "weights.pth")
    for source in (tmp_path / "weights.pth", {"epoch": 3, "state_dict": weights}):
        found = read_weights(source)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_names_are_changed_in_order():
    a, b = torch.ones(1), torch.ones(2)
    renames = [(r"^block([1-4])\.", lambda m: f"stage.{int(m[1]) - 1}."), (r"\.fc$", ".linear")]
    found = rename_weights({"block1.fc": a, "other": b}, renames)
    assert list(found) == ["stage.0.linear", "other"]
    assert found["stage.0.linear"] is a
    message = r"holds both block1\.fc and stage\.0\.linear, two names of one weight"
    with pytest.raises(ValueError, match=message):
        rename_weights({"block1.fc": a, "stage.0.linear": b}, renames)
