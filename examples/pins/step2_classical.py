"""Step 2: a baseline that needs no labels: threshold, watershed, graph.

    python step2_classical.py

Pins are thin and bright. A white top-hat keeps what is brighter than its neighbourhood and narrower
than a disc, and a threshold finds it. The watershed parts what touches; the graph method looks at
regions of even colour instead. Bent pins are told by their shape, empty holes are not seen.
"""

import numpy as np
from geometry import BENT, UP, judge, measure
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu
from skimage.morphology import disk, white_tophat
from study import SMALLEST, arguments
from study import measure as measure_method

from segalgos import Instances, felzenszwalb, watershed

WIDEST = 5  # radius of the disc, pixels: pins are up to 7 wide
LEAST_LENGTH, MOST_LENGTH, LEAST_RATIO = 10, 60, 2.0  # of what may be a pin


def bright(image: NDArray) -> NDArray[np.float64]:
    """What is brighter than its neighbourhood and narrow."""
    return white_tophat(rgb2gray(image), disk(WIDEST))


def by_threshold(image: NDArray) -> NDArray[np.int32]:
    """Pieces above Otsu's threshold."""
    narrow = bright(image)
    return ndimage.label(narrow > threshold_otsu(narrow), np.ones((3, 3)))[0]


def by_watershed(image: NDArray) -> NDArray[np.int32]:
    """The same pieces, parted where they are thin."""
    mask = by_threshold(image) > 0
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    basins = watershed(-depth.astype(np.float32), min_depth=0.5, mask=mask)
    return np.where(basins >= 0, basins + 1, 0)


def by_graph(image: NDArray) -> NDArray[np.int32]:
    """Regions of even colour, by Felzenszwalb and Huttenlocher's method."""
    return felzenszwalb(image, scale=60, sigma=0.5, min_size=SMALLEST) + 1


def pick_pins(pieces: NDArray[np.int32], image: NDArray) -> Instances:
    """Keep the pieces that are long, thin and brighter than what is around them."""
    narrow = bright(image)
    level = threshold_otsu(narrow)
    masks, shapes = [], []
    for k, area in enumerate(ndimage.find_objects(pieces), 1):
        if area is None or max(s.stop - s.start for s in area) > MOST_LENGTH:
            continue
        mask = pieces[area] == k
        if mask.sum() < SMALLEST or narrow[area][mask].mean() < level:
            continue
        shape = measure(mask)
        if shape is None or shape.length < LEAST_LENGTH:
            continue
        if shape.length**2 / mask.sum() < LEAST_RATIO:
            continue
        whole = np.zeros(pieces.shape, bool)
        whole[area] = mask
        masks.append(whole)
        shapes.append(shape)
    usual = float(np.median([shape.lean for shape in shapes])) if shapes else 0.0
    states = [judge(shape, usual)[0] for shape in shapes]
    assert set(states) <= {UP, BENT}
    return Instances(np.array(masks, bool).reshape(-1, *pieces.shape), classes=states)


def main() -> None:
    """Score the three baselines."""
    options = arguments(__doc__)
    for name, find in (
        ("threshold", by_threshold),
        ("watershed", by_watershed),
        ("graph", by_graph),
    ):
        measure_method(
            name,
            options,
            lambda image, find=find: pick_pins(find(image), image),
            label_seconds=0,
            fit_cpu_seconds=0,
            settings={"tophat_radius": WIDEST},
        )


if __name__ == "__main__":
    main()
