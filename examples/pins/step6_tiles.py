"""Step 6: small parts seen larger: the U-Net again, on pictures of twice the size, tile by tile.

    python step6_tiles.py --epochs 40

A crop of 128 pixels then holds a quarter of the parts, each with four times the pixels. Predictions
are made in tiles, so that memory does not grow with the photograph, and brought back to its size.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize
from study import (
    SECONDS_OUTLINE,
    arguments,
    cpu_seconds,
    measure,
    open_data,
    to_objects,
    true_objects,
)

from segalgos import Instances, UNetSegmenter
from segalgos.datasets import rescale

FACTOR = 2


def predict_large(net: UNetSegmenter, image: NDArray) -> Instances:
    """Enlarge, predict the classes' probabilities, shrink these, decide."""
    shape = image.shape[:2]
    large = resize(image, [FACTOR * n for n in shape], order=1, preserve_range=True)
    proba = net.predict_proba(np.rint(large).astype(np.uint8))
    small = resize(proba, (*shape, proba.shape[-1]), order=1, anti_aliasing=True)
    return to_objects(net.classes_[small.argmax(axis=-1)].astype(np.int32))


def main() -> None:
    """Learn from enlarged pictures, and score at the pictures' own size."""
    options = arguments(__doc__, epochs=40)
    train = open_data(options.data, "train")
    samples = [rescale(train, FACTOR)[i] for i in range(len(train))]
    started = cpu_seconds()
    net = UNetSegmenter(
        base_channels=12,
        depth=3,
        padding="same",
        crop_size=128,
        learning_rate=0.003,
        epochs=options.epochs,
        tile_size=512,
        random_state=options.seed,
    )
    net.fit([sample.image for sample in samples], [sample.labels for sample in samples])
    fitted = cpu_seconds() - started
    net.save(options.out / "tiles.segalgos")
    n_objects = sum(len(true_objects(train[i])) for i in range(len(train)))
    measure(
        "unet_tiles",
        options,
        lambda image: predict_large(net, image),
        label_seconds=SECONDS_OUTLINE * n_objects,
        fit_cpu_seconds=fitted,
        settings={"epochs": options.epochs, "factor": FACTOR, "pictures": len(samples)},
    )


if __name__ == "__main__":
    main()
