"""Write ``torchvision.json``: outputs of torchvision's segmentation networks.

    pip install torch==2.14.1 torchvision==0.29.1
    python make_torchvision.py

Weights and images are filled by a formula, so that the tests can make the same ones.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import torch

PATH = Path(__file__).with_name("torchvision.json")
SIZES = [(33, 47), (65, 5), (51, 91)]
N_PLACES = 8


def uniform(name, shape, low, high):
    """Numbers that depend on a name alone; raw bits are the same in all versions of numpy."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    values = (bits >> np.uint64(40)).astype(np.float32) * np.float32((high - low) / 2**24)
    return torch.from_numpy((values + np.float32(low)).reshape(shape))


def fill(network):
    """Give a network weights and running statistics by their names."""
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            bound = (6 / tensor[0].numel()) ** 0.5  # keeps the variance behind a ReLU
            tensor.copy_(uniform(name, tensor.shape, -bound, bound))
        elif name.endswith(("running_mean", "bias")):
            tensor.copy_(uniform(name, tensor.shape, -0.3, 0.3))
        elif tensor.is_floating_point():  # scales and running variances
            tensor.copy_(uniform(name, tensor.shape, 0.3, 0.9))
        else:
            tensor.zero_()
    return network.eval()


def image(size):
    """Make a colour image."""
    return uniform(f"image {size}", (1, 3, *size), -2, 2)


def describe(logits):
    """Some values of logits at fixed places, and two means over all of them."""
    values = logits.flatten().double()
    return {
        "shape": list(logits.shape),
        "values": [round(v, 6) for v in values[places(len(values))].tolist()],
        "mean": round(values.mean().item(), 6),
        "mean_square": round(values.square().mean().item(), 5),
    }


def places(n):
    """Choose places among n, from the first to the last."""
    return torch.arange(N_PLACES) * (n - 1) // (N_PLACES - 1)


def names_digest(network):
    """Digest of all names and shapes of a state dict, whatever their order."""
    lines = sorted(f"{k} {tuple(v.shape)}" for k, v in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def main():
    from torchvision.models import segmentation

    cases = []
    for name in ("fcn_resnet50", "deeplabv3_resnet50"):
        for n_classes in (21, 11):
            for auxiliary in (True, False):
                network = getattr(segmentation, name)(
                    weights=None,
                    weights_backbone=None,
                    num_classes=n_classes,
                    aux_loss=auxiliary,
                )
                with torch.inference_mode():
                    fill(network)
                    outputs = [network(image(size)) for size in SIZES]
                cases.append(
                    {
                        "network": name,
                        "n_classes": n_classes,
                        "auxiliary": auxiliary,
                        "n_names": len(network.state_dict()),
                        "names_digest": names_digest(network),
                        "outputs": [{k: describe(v) for k, v in o.items()} for o in outputs],
                    }
                )
    lines = ",\n".join(json.dumps(case) for case in cases)
    PATH.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
