"""
Show what was asked: boxes, clicks, scribbles
=============================================

Interactive methods get `Prompts`. `draw_prompts` draws them over the image or over any picture of
it, so that one sees what was asked beside what was answered.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import segalgos
from segalgos.bench.user import Click, draw_clicks
from segalgos.plot import draw_prompts, overlay

image = data.astronaut()[:300:2, 40:400:2].copy()
segmenter = segalgos.GraphCutSegmenter()

# %%
# GrabCut gets a box, which is drawn as a frame. Then come clicks on what is no part of the object,
# here the suit, drawn as dabs of a brush: a method that learns colours learns more from a dab than
# from one pixel. Each round corrects the one before.

box = [5, 15, 150, 165]
clicks = [
    Click(row, column, inside=False, depth=9)
    for row, column in ((138, 40), (138, 140), (120, 95), (80, 45))
]
prompts = [
    segalgos.Prompts(boxes=box, scribbles=draw_clicks(clicks[:n], image.shape[:2]))
    for n in (0, 2, 4)
]
figure, axes = plt.subplots(2, 3, figsize=(11, 6.3), layout="constrained")
for column, prompt, title in zip(axes.T, prompts, ("a box", "two dabs", "four dabs"), strict=True):
    labels = segmenter.predict(image, prompts=prompt)
    column[0].imshow(draw_prompts(image, prompt))
    column[0].set_title(title)
    column[1].imshow(draw_prompts(overlay(image, labels), prompt))
for panel in axes.flat:
    panel.axis("off")

# %%
# Points inside the object are discs, points outside of it crosses: they differ in form, not only in
# colour. Each colour is that of the same id in the result. The random walker takes single clicks.

image = data.coins()[20:150, 20:170].copy()
points = np.array([[35, 24], [35, 55], [103, 85], [75, 60], [120, 52], [40, 80]])
point_labels = np.array([1, 0, 1, 0, 0, 1])
walker = segalgos.RandomWalkerSegmenter()

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for panel, n in zip(axes, (2, 4, 6), strict=True):
    prompt = segalgos.Prompts(points=points[:n], point_labels=point_labels[:n])
    panel.imshow(draw_prompts(overlay(image, walker.predict(image, prompts=prompt)), prompt))
    panel.set_title(f"{n} clicks")
    panel.axis("off")
