"""
Single objects and how sure the method is
=========================================

Segmenters that find single objects give `Instances`: a mask for each object and a score, which
says how sure the method is. `draw_instances` shows both.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage import data

import segalgos
from segalgos.plot import draw_instances

# %%
# To have something to learn from, the coins at the left are taken by their brightness, which is
# easy there. Every connected part that is large enough is an object but the bright corner.

image = data.coins()
left, right = image[:, :196], image[:, 196:]
parts, _ = ndimage.label(ndimage.binary_fill_holes(ndimage.gaussian_filter(left, 1) > 115))
areas = np.bincount(parts.ravel())
parts[(areas[parts] < 300) | np.isin(parts, parts[9])] = 0
truth = segalgos.Instances.from_labels(parts)
print(f"{len(truth)} objects to learn from")

# %%
# A random forest learns the insides and borders of objects. The score is its mean probability of
# an object, over the object's pixels. Surer objects are painted on top of others, and have their
# scores written where there is no room for all.

segmenter = segalgos.BoundaryInstanceSegmenter(
    segalgos.RandomForestSegmenter(n_estimators=50, random_state=0), border_width=5, sigma=4.0
)
segmenter.fit(left, truth)
found = segmenter.predict(right)
print(f"{len(found)} objects found, scores {found.scores.min():.2f} to {found.scores.max():.2f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 7.2), layout="constrained")
axes[0].imshow(draw_instances(left, truth, scores=False))
axes[0].set_title("learned from")
axes[1].imshow(draw_instances(right, found))
axes[1].set_title("found, with scores")
for panel in axes:
    panel.axis("off")

# %%
# `Instances` are selected like arrays, here by their scores. Names are written before scores.

sure = found[found.scores >= np.median(found.scores)]
figure, panel = plt.subplots(figsize=(4.6, 7.2), layout="constrained")
panel.imshow(draw_instances(right, sure, classes=["coin"]))
panel.set_title("the surer half")
panel.axis("off")
