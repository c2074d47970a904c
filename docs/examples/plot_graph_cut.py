"""
Graph cuts: from a box, from scribbles
======================================

A box is enough for GrabCut, which learns the colours of the object and of what is around it in
turn. Scribbles say what is meant: here not the
suit. Scribbles may mark any number of labels.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.astronaut()[:300:2, 40:400:2].copy()
segmenter = segalgos.GraphCutSegmenter()

box = np.array([5, 15, 150, 165])
by_box = segmenter.predict(image, prompts=segalgos.Prompts(boxes=box))

strokes = np.full(image.shape[:2], -1)
strokes[118:123, 60:125] = strokes[138:148, 30:60] = strokes[138:148, 125:150] = 0
prompts = segalgos.Prompts(boxes=box, scribbles=strokes)
without_suit = segmenter.predict(image, prompts=prompts)

figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
axes[0].imshow(image)
axes[0].add_patch(plt.Rectangle(box[1::-1], *(box[3:1:-1] - box[1::-1]), fill=False, color="w"))
axes[0].set_title("box")
for panel, labels, title in zip(
    axes[1:], (by_box, without_suit), ("GrabCut", "with scribbles"), strict=True
):
    panel.imshow(overlay(image, labels))
    panel.set_title(title)
axes[2].imshow(np.ma.masked_less(strokes, 0), cmap="cool", interpolation="nearest")
for panel in axes:
    panel.axis("off")

# %%
# Scribbles keep their ids. All labels are found together, by alpha-expansion.

image = data.coffee()[::2, ::2].copy()
scribbles = np.full(image.shape[:2], -1)
scribbles[10:190, 270:273] = scribbles[80:190, 15:18] = 0  # table
scribbles[90:170, 60:63] = scribbles[174:177, 80:200] = scribbles[80:110, 222:225] = 1  # saucer
scribbles[13:16, 120:165] = scribbles[30:33, 110:180] = 2  # cup
scribbles[74:77, 115:170] = 3  # coffee
labels = segmenter.predict(image, prompts=segalgos.Prompts(scribbles=scribbles))

figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
axes[0].imshow(image)
axes[0].imshow(np.ma.masked_less(scribbles, 0), cmap="brg", interpolation="nearest")
axes[0].set_title("scribbles")
axes[1].imshow(overlay(image, labels))
axes[1].set_title("four labels")
for panel in axes:
    panel.axis("off")
