"""
Losses and their gradients
==========================

What a loss says of one pixel, given the probability p of its true class, and how hard it pulls at
the score. The curves come from the classes of :mod:`segalgos.training.losses` themselves.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from segalgos.training.losses import make_loss


def curve(loss, p):
    """Loss of a single pixel for each p, and its gradient with regard to the score."""
    score = torch.logit(torch.tensor(p, dtype=torch.float64)).float().requires_grad_()
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    values = torch.stack(
        [loss(torch.stack([s, torch.zeros(())]).reshape(1, 2, 1, 1), labels) for s in score]
    )
    (gradient,) = torch.autograd.grad(values.sum(), score)
    return values.detach().numpy(), gradient.numpy()


# %%
# One pixel
# ---------
#
# The image is a single pixel here, so the losses of regions (Dice, Tversky, Lovasz) act on that
# pixel alone. Right: the gradient with regard to the score of the true class. It is what training
# feels. Cross-entropy pulls hardest at what is most wrong. The focal loss soon leaves alone what is
# right. Losses of regions hardly pull at either end, where the softmax is flat: that is why they
# are mostly added to cross-entropy. Dice and Tversky differ by what is wrong in other pixels, so
# for one pixel they nearly agree; the 1 and the 1/2 that keep them defined halve them here.

p = np.linspace(0.002, 0.998, 250)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name in ("cross_entropy", "focal", "dice", "tversky", "lovasz", "multi"):
    values, gradient = curve(make_loss(name), p)
    style = "--" if name == "tversky" else "-"
    left.plot(p, values, style, label=name)
    right.plot(p, gradient, style, label=name)
left.set(xlabel="p of the true class", ylabel="loss", ylim=(0, 5))
right.set(xlabel="p of the true class", ylabel="gradient with regard to its score")
right.axhline(0, color="0.6", lw=0.8)
left.legend()

# %%
# Losses of regions look at all pixels
# ------------------------------------
#
# A thousand pixels, of which few or many are of the class. The others are found well: they get
# the class with a probability of only 0.01. What does it cost to miss the class? Cross-entropy asks
# each pixel by itself, so a rare class is missed nearly for free. Dice and Lovasz ask for the
# overlap, which a miss makes zero, however small the class is.

from segalgos.training.losses import CrossEntropyLoss, DiceLoss, LovaszLoss

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", sharex=True)
for panel, loss in zip(axes, (CrossEntropyLoss(), DiceLoss(), LovaszLoss()), strict=True):
    for share in (1, 10, 50):
        labels = (torch.arange(1000) < 10 * share).long().reshape(1, 20, 50)
        values = []
        for chance in p:
            found = torch.where(labels == 1, float(chance), 0.01)
            logits = torch.stack([1 - found, found], dim=1).log()
            values.append(loss(logits, labels).item())
        panel.plot(p, values, label=f"{share} % are of the class")
    panel.set(xlabel="p given to pixels of the class", title=type(loss).__name__)
axes[0].set_ylim(0, 3)
axes[0].legend(fontsize=8)

# %%
# Hard pixels only
# ----------------
#
# ``"ohem"`` counts pixels whose p is below its threshold, and at least `min_kept` of them. Each dot
# is a pixel of a random map; grey ones do not count.

from segalgos.training.losses import OhemCrossEntropyLoss

generator = torch.Generator().manual_seed(0)
logits = torch.randn(1, 2, 12, 12, generator=generator) * 2
logits.requires_grad_()
labels = torch.zeros(1, 12, 12, dtype=torch.long)
loss = OhemCrossEntropyLoss(threshold=0.7, min_kept=10)
(gradient,) = torch.autograd.grad(loss(logits, labels), logits)
kept = gradient[0, 0].ravel() != 0
probability = logits.softmax(1)[0, 0].ravel().detach()

figure, panel = plt.subplots(figsize=(6, 3), layout="constrained")
for chosen, colour, name in ((~kept, "0.7", "left out"), (kept, "tab:red", "counts")):
    panel.plot(probability[chosen], -probability[chosen].log(), "o", c=colour, ms=4, label=name)
panel.set(xlabel="p of the true class", ylabel="cross-entropy")
panel.legend()

# %%
# Unlabelled pixels are inert
# ---------------------------
#
# A label of -1 changes no value and gets a gradient of exactly zero, in every loss, even where the
# logits are not finite.

labels[:, :6] = -1
broken = logits.detach().clone()
broken[:, :, :6] = float("nan")
for name in ("cross_entropy", "focal", "dice", "multi", "tversky", "lovasz", "ohem"):
    loss = make_loss(name)
    whole = loss(broken.requires_grad_(), labels)
    part = loss(logits[:, :, 6:], labels[:, 6:])
    (gradient,) = torch.autograd.grad(whole, broken)
    print(f"{name:14} {whole.item():.6f} {part.item():.6f} {gradient[:, :, :6].abs().max():.0f}")
