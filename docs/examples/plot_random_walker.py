"""
Random walker: probabilities from scribbles
===========================================

A walk starts at each pixel and shuns edges. It gets the label of the scribble that it most
probably meets first, and that probability says how sure this is.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.coffee()
scribbles = np.full(image.shape[:2], -1)
scribbles[10:16, 20:580] = scribbles[385:390, 20:200] = scribbles[300:390, 560:566] = 0  # table
scribbles[330:336, 170:330] = scribbles[180:300, 110:116] = scribbles[260:320, 440:446] = (
    1  # saucer
)
scribbles[70:180, 196:202] = scribbles[40:46, 250:340] = scribbles[70:180, 380:386] = 2  # cup
scribbles[130:136, 240:340] = scribbles[180:186, 260:320] = 3  # coffee
prompts = segalgos.Prompts(scribbles=scribbles)

segmenter = segalgos.RandomWalkerSegmenter()
labels = segmenter.predict(image, prompts=prompts)
proba = segmenter.predict_proba(image, prompts=prompts)

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
axes[0, 0].imshow(overlay(image, scribbles, alpha=1))
axes[0, 0].set_title("scribbles")
axes[0, 1].imshow(overlay(image, labels, alpha=0.5))
axes[0, 1].set_title("labels")
axes[1, 0].imshow(proba[..., 3], cmap="gray")
axes[1, 0].set_title("probability of coffee")
axes[1, 1].imshow(proba.max(axis=-1), cmap="gray")
axes[1, 1].set_title("probability of the label")
for panel in axes.flat:
    panel.axis("off")

# %%
# ``beta`` sets how much walks shun edges.

for beta in (10, 130, 1000):
    proba = segalgos.RandomWalkerSegmenter(beta).predict_proba(image, prompts=prompts)
    print(f"beta={beta}: mean probability of the label {proba.max(axis=-1).mean():.2f}")
