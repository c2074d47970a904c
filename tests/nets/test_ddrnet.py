"""DDRNet against what the authors' code computes, and the paper's tables."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segalgos.nets.ddrnet import DAPPM, DDRNet

GOLDEN = Path(__file__).parent / "golden"


def make(in_channels=3, n_classes=4, **options):
    options = {"base_channels": 8, "context_channels": 8, "head_channels": 8} | options
    return DDRNet(
        in_channels, n_classes, generator=torch.Generator().manual_seed(0), **options
    ).eval()


def random_input(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "ddrnet.json").read_text())


def test_outputs_equal_those_of_the_authors_code(golden):
    maker = runpy.run_path(GOLDEN / "make_ddrnet.py")
    network = DDRNet(3, 4, auxiliary=True).eval()
    maker["fill"](network)
    with torch.inference_mode():
        logits = network(maker["image"]())
        network.training = True  # both heads; the norms stay in evaluation
        outputs = network(maker["image"]())
    assert torch.equal(outputs[0], logits)
    for found, expected in zip(outputs, golden["outputs"], strict=True):
        assert found.shape == (1, 4, *maker["SIZE"])
        values = found.flatten()[:: maker["STEP"]].tolist()
        assert values == pytest.approx(expected["values"], rel=1e-4, abs=1e-4)
        assert float(found.double().sum()) == pytest.approx(expected["sum"], rel=1e-4)


def test_names_and_shapes_are_those_of_the_authors_code(golden):
    with torch.device("meta"):
        for auxiliary in (False, True):
            network = DDRNet(3, 4, auxiliary=auxiliary)
            shapes = {k: str(list(v.shape)) for k, v in network.state_dict().items()}
            expected = {
                k: v
                for k, v in golden["shapes"].items()
                if auxiliary or not k.startswith("seghead_extra.")
            }
            assert shapes == expected


@pytest.mark.parametrize(
    ("options", "parameters", "multiply_adds"),
    [({}, 5.7e6, 36.3e9), ({"base_channels": 64, "head_channels": 128}, 20.1e6, 143.1e9)],
    ids=["23-slim", "23"],
)
def test_size_and_work_of_the_paper(options, parameters, multiply_adds):
    """Of the paper's comparison on Cityscapes: 2048 x 1024 pixels, 19 classes."""
    work = []

    def count(conv, _, output):
        work.append(conv.weight.numel() * output.shape[2] * output.shape[3])

    with torch.device("meta"):
        network = DDRNet(3, 19, **options).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        assert network(torch.empty(1, 3, 1024, 2048)).shape == (1, 19, 1024, 2048)
    n_parameters = sum(p.numel() for p in network.parameters())
    assert n_parameters == pytest.approx(parameters, abs=0.05e6)
    assert sum(work) == pytest.approx(multiply_adds, abs=0.05e9)


def test_channels_and_strides_of_the_paper():
    """The paper's table of architectures."""
    sizes = {}
    network = DDRNet(3, 19).eval()
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "layer5",
                 "layer3_", "layer4_", "layer5_", "spp"):  # fmt: skip
        network.get_submodule(name).register_forward_hook(
            lambda _, x, y, name=name: sizes.update({name: (y.shape[1], 256 // y.shape[2])})
        )
    with torch.inference_mode():
        network(torch.zeros(1, 3, 256, 64))
    assert sizes == {
        "conv1": (32, 4), "layer1": (32, 4), "layer2": (64, 8),
        "layer3": (128, 16), "layer4": (256, 32), "layer5": (512, 64), "spp": (128, 64),
        "layer3_": (64, 8), "layer4_": (64, 8), "layer5_": (128, 8),
    }  # fmt: skip


@pytest.mark.parametrize("in_channels", [1, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (37, 50), (8, 8), (129, 61)])
def test_any_size_and_number_of_channels(in_channels, size):
    network = make(in_channels)
    with torch.inference_mode():
        assert network(random_input(2, in_channels, *size)).shape == (2, 4, *size)


def test_sizes_between_multiples_of_the_stride_keep_cells_in_place():
    network = make()
    assert [network.fit_size(n) for n in (1, 8, 9, 720)] == [8, 8, 16, 720]
    assert (network.stride, network.margin, network.halo) == (8, 0, None)
    cells = random_input(1, 4, 3, 2)
    whole = network._enlarge(cells, torch.empty(1, 3, 24, 16))
    cut = network._enlarge(cells, torch.empty(1, 3, 19, 13))
    assert torch.equal(cut, whole[:, :, :19, :13])


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 72)])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_of_one_trains(batch_size, size):
    network = make(auxiliary=True).train()
    logits, auxiliary = network(random_input(batch_size, 3, *size))
    assert logits.shape == auxiliary.shape == (batch_size, 4, *size)
    (logits.square().mean() + 0.4 * auxiliary.square().mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert all(torch.isfinite(v).all() for v in network.state_dict().values())


def test_the_global_branch_of_a_single_image_learns():
    pool = DAPPM(8, 4, 8).train()
    x = random_input(1, 8, 6, 6)
    pool(x).square().mean().backward()
    assert (pool.scale4[3].weight.grad != 0).any()
    assert int(pool.scale4[1].num_batches_tracked) == 0
    assert int(pool.scale3[1].num_batches_tracked) == 0  # 6 x 6 shrinks to 1 x 1 here, too
    assert int(pool.scale2[1].num_batches_tracked) == 1


def test_the_auxiliary_head_is_for_training():
    network, x = make(auxiliary=True), random_input(1, 3, 16, 16)
    assert isinstance(network(x), torch.Tensor)
    assert isinstance(make().train()(x), torch.Tensor)
    assert not torch.equal(*network.train()(x))


def test_initial_weights_follow_their_generator():
    torch.manual_seed(1)
    a = DDRNet(3, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(2)
    b = DDRNet(3, 4, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    for conv, fan_out in [(a.layer4[1].conv1, 256 * 9), (a.layer5[0].conv3, 512)]:
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)


def test_load_checkpoint(tmp_path):
    a, x = make(), random_input(1, 3, 24, 24)
    together = {f"model.{k}": v for k, v in a.state_dict().items()}
    together["loss.criterion.weight"] = torch.ones(4)
    torch.save(together, tmp_path / "run.pth")
    for source in (a.state_dict(), together, tmp_path / "run.pth"):
        b = make()
        b.reset_parameters()
        assert b.load_checkpoint(source) is b
        assert torch.equal(a(x), b(x))
    with pytest.raises(ValueError, match=r"DDRNet: the checkpoint misses 13 of .*seghead_extra"):
        make(auxiliary=True).load_checkpoint(a.state_dict())
    with pytest.raises(ValueError, match="DDRNet: the checkpoint has left over 1"):
        a.load_checkpoint(a.state_dict() | {"loss.criterion.weight": torch.ones(4)})


@pytest.mark.parametrize("base_channels", [0, 4, 12])
def test_channels_that_kernels_cannot_take_are_refused(base_channels):
    with pytest.raises(ValueError, match=f"base_channels is {base_channels}, expected a multiple"):
        DDRNet(3, 2, base_channels=base_channels)
