"""
Gradients of brightness, colour and texture
===========================================

Three ways in which both sides of a boundary can differ, and what comes of all together. See
:doc:`how it works </contour_gradients>`.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

from segalgos import multiscale_pb, non_maximum_suppression, pb_gradients

image = data.coffee()[::2, ::2]
gradients = pb_gradients(image)
strengths = multiscale_pb(image)

panels = {"image": image}
for cue, scale in (("L", 1), ("b", 1), ("texture", 2)):
    index = gradients.cues.index(cue)
    radius = gradients.radii[index, scale]
    panels[f"{cue}, radius {radius}"] = gradients.strengths[index, scale].max(axis=0)
panels["mPb, largest of all directions"] = strengths.max(axis=0)
panels["thin"] = non_maximum_suppression(strengths)

figure, axes = plt.subplots(2, 3, figsize=(12, 5.6), layout="constrained")
for axis, (title, panel) in zip(axes.flat, panels.items(), strict=True):
    axis.imshow(panel, cmap="gray_r")
    axis.set_title(title)
    axis.axis("off")

# %%
# Texture alone: the halves of this image have the same brightness and differ in the direction of
# their stripes. L sees the stripes themselves at small radii; at a large one they are alike
# everywhere, and the texture gradient is left.

stripes = np.zeros((80, 160))
stripes[::4, :80] = stripes[1::4, :80] = 1
stripes[:, 80::4] = stripes[:, 81::4] = 1
gradients = pb_gradients(stripes, n_textons=16)
figure, axes = plt.subplots(1, 3, figsize=(12, 2.4), layout="constrained")
axes[0].imshow(stripes, cmap="gray")
axes[0].set_title("stripes")
for axis, cue in zip(axes[1:], gradients.cues, strict=True):
    index = gradients.cues.index(cue)
    axis.imshow(gradients.strengths[index, 2, 4], cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(f"{cue}, radius {gradients.radii[index, 2]}, upright")
for axis in axes:
    axis.axis("off")
