"""Make ddrnet.json: what the authors' DDRNet-23-slim computes from weights given by a formula.

    git clone https://github.com/ydhongHIT/DDRNet
    python make_ddrnet.py DDRNet/segmentation/DDRNet_23_slim.py

Needs torch and the authors' repository.
"""

import json
import runpy
import sys
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = (64, 136)
STEP = 1499  # every so many-th value is kept


def values_of(name: str, shape: torch.Size) -> Tensor:
    """Numbers between -1 and 1 that depend on a name and a shape alone."""
    phase = zlib.crc32(name.encode()) % 1000
    at = torch.arange(shape.numel(), dtype=torch.float64)
    return torch.sin(0.7 * at * at.sqrt() + phase).reshape(shape)


def fill(network: nn.Module) -> None:
    """Fill all weights and statistics by their names, with scales that keep values moderate."""
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = values_of(name, tensor.shape)
        if tensor.ndim > 1:
            values = values * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            values = 1 + 0.5 * values
        tensor.copy_(values)


def image() -> Tensor:
    """Make the input, (1, 3, *SIZE)."""
    return values_of("image", torch.Size((1, 3, *SIZE))).float()


def main(path: str) -> None:
    """Write ddrnet.json beside this file."""
    nn.SyncBatchNorm = nn.BatchNorm2d  # the same values, and works without a GPU
    authors = runpy.run_path(path)
    network = authors["DualResNet"](
        authors["BasicBlock"],
        [2, 2, 2, 2],
        num_classes=4,
        planes=32,
        spp_planes=128,
        head_planes=64,
        augment=True,
    ).eval()
    fill(network)
    with torch.inference_mode():
        outputs = [F.interpolate(y, size=SIZE, mode="bilinear") for y in network(image())]
    golden = {
        "shapes": {name: str(list(v.shape)) for name, v in network.state_dict().items()},
        "outputs": [
            {
                "sum": round(float(y.double().sum()), 2),
                "values": [round(v, 5) for v in y.flatten()[::STEP].tolist()],
            }
            for y in outputs
        ],
    }
    Path(__file__).with_name("ddrnet.json").write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
