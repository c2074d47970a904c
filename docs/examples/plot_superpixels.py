"""
Superpixels: which method?
==========================

Methods trade even, compact segments for outlines that follow the image. Some scores need
the outlines that people drew; two need only the segments and the image: how much of its
variation their mean colours explain, and how compact they are.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, segmentation

from segalgos import superpixels
from segalgos.metrics import superpixel_scores

image = data.astronaut()[:300, 60:420]
methods = {
    "slic": {},
    "slico": {},
    "etps": {},
    "etps, smoother": {"method": "etps", "compactness": 5, "boundary": 20},
}

figure, axes = plt.subplots(2, 2, figsize=(10, 8.6), layout="constrained")
for panel, (name, options) in zip(axes.flat, methods.items(), strict=True):
    labels = superpixels(image, 250, **{"method": name, **options})
    scores = superpixel_scores(labels, labels, image)
    panel.imshow(segmentation.mark_boundaries(image, labels, color=(1, 1, 0)))
    panel.set_title(
        f"{name}: {scores['n_segments']} segments\n"
        f"explained variation {scores['explained_variation']:.3f}, "
        f"compactness {scores['compactness']:.2f}"
    )
    panel.axis("off")

# %%
# Seen as a picture of few colours, each segment in its mean, the better fit shows at once.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for panel, method in zip(axes, ("slic", "etps"), strict=True):
    labels = superpixels(image, 250, method=method)
    sizes = np.bincount(labels.ravel())
    means = [np.bincount(labels.ravel(), image[..., c].ravel()) / sizes for c in range(3)]
    panel.imshow(np.stack(means, axis=-1)[labels].astype(np.uint8))
    panel.set_title(method)
    panel.axis("off")
