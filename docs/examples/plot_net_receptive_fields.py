"""
How far nets see
================

Which pixels of the input move one pixel of the output? The gradient of a single output with
regard to the image answers that, without any training. Its extent is the receptive field: the
*theoretical* one is where the gradient may differ from zero, the *effective* one [1]_ is where
most of it is.

.. [1] W. Luo, Y. Li, R. Urtasun and R. Zemel, "Understanding the effective receptive field in deep
   convolutional neural networks", NeurIPS 2016, arXiv:1701.04128.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from segalgos.nets.ddrnet import DDRNet
from segalgos.nets.deeplab import DeepLab
from segalgos.nets.fcn import FCN
from segalgos.nets.segformer import SegFormer
from segalgos.nets.unet import UNet

SIZE = 320
generator = torch.Generator().manual_seed(0)

nets = {
    "U-Net, depth 2": UNet(1, 2, base_channels=8, depth=2, padding="same", generator=generator),
    "U-Net, depth 4": UNet(1, 2, base_channels=8, depth=4, padding="same", generator=generator),
    "FCN-8s": FCN(1, 2, padding="same", base_channels=8, fc_channels=64, generator=generator),
    "DeepLab v3+": DeepLab(1, 2, backbone="resnet18", base_channels=8, generator=generator),
    "SegFormer-B0": SegFormer("b0", 2, 1, generator=generator),
    "DDRNet": DDRNet(
        1, 2, base_channels=8, context_channels=16, head_channels=8, generator=generator
    ),
}

# The scores of FCN start at zero and would let no gradient through.
for name, layer in nets["FCN-8s"].named_children():
    if name.startswith("score"):
        torch.nn.init.normal_(layer.weight, generator=generator)


def influence(net, n_images=4):
    """Mean absolute gradient of the middle of the output, (SIZE, SIZE), over random images."""
    net.eval()
    total = torch.zeros(SIZE, SIZE)
    for _ in range(n_images):
        image = torch.randn(1, 1, SIZE, SIZE, generator=generator, requires_grad=True)
        scores = net(image)[0, :, SIZE // 2, SIZE // 2]
        (gradient,) = torch.autograd.grad(scores[0] - scores[1], image)
        total += gradient[0, 0].abs()
    return (total / total.sum()).numpy()


# %%
# Brightness is the gradient on a logarithmic scale. The box is the theoretical field, from the
# attribute ``halo``: nets without a box see the whole image. The circle holds nine tenths of the
# gradient.

rows, columns = np.indices((SIZE, SIZE)) - SIZE // 2
distance = np.hypot(rows, columns)
order = distance.ravel().argsort()

figure, axes = plt.subplots(2, 3, figsize=(9.5, 6.6), layout="constrained")
for panel, (name, net) in zip(axes.flat, nets.items(), strict=True):
    field = influence(net)
    radius = distance.ravel()[order][field.ravel()[order].cumsum() >= 0.9][0]
    panel.imshow(np.log10(field + 1e-8), vmin=-7.5, vmax=-2.5, cmap="magma")
    panel.add_patch(plt.Circle((SIZE // 2, SIZE // 2), radius, fill=False, ec="w", lw=1.2))
    if net.halo is not None:
        corner = SIZE // 2 - net.halo - 0.5
        side = 2 * net.halo + 1
        panel.add_patch(plt.Rectangle((corner, corner), side, side, fill=False, ec="c", ls="--"))
    panel.set(
        xticks=[], yticks=[], title=f"{name}: 90 % in {radius:.0f} px", xlim=(0, SIZE - 1),
        ylim=(SIZE - 1, 0),
    )  # fmt: skip

# %%
# A pixel near by counts more than one far away, everywhere: many paths lead from it to the output,
# and the shortest come by a skip. But pixels far away are many. U-Net's field ends at its box, well
# before that its influence fades. In FCN, DeepLab and DDRNet the distant pixels together have most
# of the weight. SegFormer's attention is nearly even before training: a faint veil over the whole
# image, in which each key is a patch; the bright squares are the cells of its coarse stages that
# the 3x3 convolutions of the feed-forward layers reach. Training moves the weight to where the data
# need it.
#
# ``halo`` is also what prediction in tiles needs: so many pixels more around a tile, and its
# result is that of the whole image. FCN's box is wider than this picture.

print({name: net.halo for name, net in nets.items()})
