"""
Train a small U-Net
===================

A network learns from dense labels of some images. This one is small and learns for seconds only,
to find out which pixels belong to any object. It shows how it is done, not how well it can be
done: given so little time, the random forest is ahead.
"""

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np

import segalgos
from segalgos import datasets
from segalgos.plot import learning_curve, overlay
from segalgos.training.augment import Augmentation, CropSampler


def load(split, n_images):
    """Images, and maps of background (0) and object (1)."""
    shapes = datasets.load("shapes", split=split, n_images=n_images, size=(96, 128), scale=1.5)
    return list(shapes.images), [np.minimum(labels, 1) for labels in shapes.labels]


images, labels = load("train", 16)
test_images, test_labels = load("test", 4)

# %%
# Training draws random crops, turned, scaled and re-lit. ``fit`` does so by itself; this is how its
# crops can be looked at.

sampler = CropSampler(
    images,
    labels,
    shape=(64, 64),
    prepare=lambda window, i: np.float32((window - 128.0) / 64),
    augmentation=Augmentation(scale=(0.7, 1.4), rotation=20),
    random_state=np.random.default_rng(0),
)
figure, axes = plt.subplots(2, 8, figsize=(10, 2.7), layout="constrained")
for top, bottom in axes.T:
    crop, label_map, _ = sampler.draw(np.random.default_rng(top.get_subplotspec().num1))
    picture = (crop * 64 + 128).clip(0, 255).astype(np.uint8)
    top.imshow(picture)
    bottom.imshow(overlay(picture, np.where(label_map == 1, 0, -1)))
    for panel in (top, bottom):
        panel.set(xticks=[], yticks=[])

# %%
# ``epochs`` makes it reproducible: the same seed gives the same network. ``time_budget`` would stop
# it after so many seconds instead. The defaults are the network of the paper, which is much larger;
# a small one with normalised batches learns faster.

net = segalgos.UNetSegmenter(
    base_channels=8,
    depth=2,
    padding="same",
    batch_norm=True,
    dropout=0.0,
    epochs=14,
    crop_size=64,
    learning_rate=1e-2,
    validation_fraction=0.25,
    random_state=0,
)
net.fit(images, labels)
print(f"{net.n_parameters_:,} parameters")

# %%
# ``history_`` has a row for each epoch. A quarter of the images was kept aside
# (``validation_fraction``): the weights kept are those of the epoch with the best score, the
# circle. The learning rate warms up, then falls to zero.

figure, panel = plt.subplots(figsize=(6, 3.4), layout="constrained")
learning_curve(net.history_, panel)

# %%
# The forest sees the same labels. ``score`` is the mean IoU over the classes of the data set.

forest = segalgos.RandomForestSegmenter(50, max_samples=10_000, random_state=0)
forest.fit(images, labels)
for segmenter in (net, forest):
    print(f"{type(segmenter).__name__}: {segmenter.score(test_images, test_labels):.3f}")

rows = {
    "image": test_images,
    "truth": test_labels,
    "U-Net": net.predict(test_images),
    "random forest": forest.predict(test_images),
}
figure, axes = plt.subplots(4, 4, figsize=(10, 7.8), layout="constrained")
for row, (title, results) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(title)
    for panel, image, result in zip(row, test_images, results, strict=True):
        panel.imshow(image if title == "image" else overlay(image, result - 1))
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
