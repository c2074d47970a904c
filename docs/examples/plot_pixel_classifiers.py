"""
Three pixel classifiers
=======================

A random forest, a support vector machine and any classifier of scikit-learn describe pixels by
the same features and learn from the same strokes.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import segalgos
from segalgos.plot import overlay

image = data.immunohistochemistry()

# %%
# The stained glands are one class, the tissue between them another, and the third is empty.

strokes = {
    0: [(100, 104, 40, 200), (420, 424, 270, 370), (400, 404, 60, 140), (90, 94, 400, 440)],
    1: [(300, 304, 170, 250), (380, 384, 164, 244), (60, 64, 450, 505), (330, 334, 386, 500)],
    2: [(320, 380, 5, 25), (150, 156, 338, 354), (405, 420, 440, 465)],
}
scribbles = np.full(image.shape[:2], -1)
for label, places in strokes.items():
    for top, bottom, left, right in places:
        scribbles[top:bottom, left:right] = label

# %%
# Features at larger scales see more of the surroundings: nuclei of a gland and of the tissue are
# alike, but not what is around them. Strokes reach from one border to the next, or borders would
# be taken for something else. The SVM's boundary between classes is smooth, the forest's is made
# of steps along features, and nearest neighbours follow every stroke.

scales = (1, 2, 4, 8, 16)
neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier(15))
segmenters = {
    "random forest": segalgos.RandomForestSegmenter(scales=scales, random_state=0),
    "SVM": segalgos.SVMSegmenter(scales=scales, random_state=0),
    "nearest neighbours": segalgos.PixelClassifierSegmenter(
        neighbours, scales=scales, max_samples=2000, random_state=0
    ),
}
figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
axes[0, 0].imshow(overlay(image, scribbles, alpha=1))
axes[0, 0].set_title("strokes")
for panel, (name, segmenter) in zip(axes.flat[1:], segmenters.items(), strict=True):
    labels = segmenter.fit(image, scribbles).predict(image)
    panel.imshow(overlay(image, labels))
    panel.set_title(name)
for panel in axes.flat:
    panel.axis("off")

# %%
# How sure is each of them? The forest's trees disagree where strokes say little, the SVM is sure
# away from its boundary.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
for panel, (name, segmenter) in zip(axes, segmenters.items(), strict=True):
    shown = panel.imshow(segmenter.uncertainty(image), vmin=0, vmax=1, cmap="gray")
    panel.set_title(name)
    panel.axis("off")
figure.colorbar(shown, ax=axes, label="uncertainty", shrink=0.8)
