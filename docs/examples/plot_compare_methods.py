"""
Three methods on one photograph
===============================

None of these methods learns from labels, and each has its own idea of what belongs together.
"""

import matplotlib.pyplot as plt
from skimage import data

import segalgos
from segalgos.plot import overlay

image = data.astronaut()

# %%
# *k-means* looks at colours alone. *SLIC* cuts compact pieces of about equal size.
# *Felzenszwalb's* method merges neighbours as long as they differ less across their border than
# within, so regions are as large as the picture lets them be.

methods = {
    "k-means, 6 clusters": segalgos.KMeansSegmenter(6, random_state=0),
    "SLIC, 250 segments": segalgos.SLICSegmenter(250),
    "Felzenszwalb, scale 300": segalgos.FelzenszwalbSegmenter(scale=300, min_size=100),
}
results = {name: segmenter.fit_predict(image) for name, segmenter in methods.items()}

figure, axes = plt.subplots(2, 2, figsize=(9, 9), layout="constrained")
axes[0, 0].imshow(image)
axes[0, 0].set_title("image")
for panel, (name, labels) in zip(axes.flat[1:], results.items(), strict=True):
    panel.imshow(overlay(image, labels))
    panel.set_title(f"{name}: {labels.max() + 1} labels")
for panel in axes.flat:
    panel.axis("off")

# %%
# The numbers in a label map only say which pixels belong together. To compare two of them, use a
# score that does not care for names. Variation of information counts, in bits, what each leaves
# unsaid about the other: 0 if they are the same.

from segalgos.metrics import region_scores

names = list(results)
for i, first in enumerate(names):
    for second in names[i + 1 :]:
        scores = region_scores(results[first], results[second])
        print(f"{first} / {second}: {scores['variation_of_information']:.2f} bits")
