"""SLIC superpixels, with a given or an adaptive compactness (SLICO)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import (
    check_bool,
    check_choice,
    check_image,
    check_int,
    check_mask,
    check_real,
)
from segalgos.clustering._connect import connect
from segalgos.clustering._local_kmeans import cluster
from segalgos.clustering._seeds import settle, spacing_of, spread
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.smoothing import gaussian

__all__ = ["SLICSegmenter", "slic"]

WHITE = 100.0  # of channels that are not Lab, so that compactness means the same for them
CELL_BLOCKS = 4.8  # averaged pixels along a cell: fewer blur the centres


def _check_parameters(
    caller,
    n_segments,
    compactness,
    adaptive_compactness,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    check_int(caller, "n_segments", n_segments, low=1)
    check_real(caller, "compactness", compactness, low=0, high=1e6)
    check_bool(caller, "adaptive_compactness", adaptive_compactness)
    check_int(caller, "max_iter", max_iter, low=1)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_choice(caller, "color_space", color_space, ("lab", "rgb"))
    check_real(caller, "min_size_factor", min_size_factor, low=0, high=1)
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _features(image, mask, sigma, color_space, data_range, caller):
    """Channels first (C, H, W), smoothed, in Lab or in units where white is 100."""
    data_range = find_data_range(image, mask, data_range, caller)
    if mask is not None:
        image = np.where(mask[..., None], image, 0)
    is_lab = color_space == "lab" and image.shape[-1] == 3
    if sigma > 0 or not is_lab:
        image = gaussian(rescale(image, data_range, WHITE), sigma, mask)
        data_range = WHITE
    if is_lab:
        return rgb_to_lab(image, data_range, channels_first=True)
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _segment(
    image,
    mask,
    caller,
    *,
    n_segments,
    compactness,
    adaptive_compactness,
    max_iter,
    sigma,
    color_space,
    min_size_factor,
    data_range,
):
    """Segment a checked image; see `slic`."""
    shape = image.shape[:-1]
    features = _features(image, mask, sigma, color_space, data_range, caller)
    volume = (1,) * (3 - len(shape)) + shape
    features = features.reshape(len(features), *volume)
    inside = np.ones(volume, bool) if mask is None else mask.reshape(volume)
    n_pixels = np.count_nonzero(inside)
    n_segments = min(n_segments, n_pixels)

    spacing = spacing_of(inside, n_segments)
    seeds = spread(inside, n_segments, spacing)
    if spacing >= 3:  # nearer ones could fall together
        settle(features, inside, seeds)
    places = np.unique(np.ravel_multi_index(tuple(seeds.T), volume))
    seeds = np.column_stack(np.unravel_index(places, volume))
    compactness = None if adaptive_compactness else compactness
    side = max(1, int(spacing / CELL_BLOCKS))
    labels = cluster(features, inside, seeds, spacing, compactness, max_iter, side)
    min_size = max(1, int(min_size_factor * n_pixels / n_segments))
    connect(labels, features, n_segments, min_size)
    return labels.reshape(shape)


def slic(
    image: ArrayLike,
    n_segments: int = 250,
    *,
    compactness: float = 10.0,
    adaptive_compactness: bool = False,
    max_iter: int = 10,
    sigma: float = 0.0,
    color_space: str = "lab",
    min_size_factor: float = 0.1,
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an image into compact, connected superpixels of about equal size.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, default=250
        How many to make. Fewer come out where seeds lose all their pixels, more where the
        mask has more pieces.
    compactness : float, default=10.0
        Distance of colours that counts as much as the distance of two seeds: larger values
        give squarer segments. In units of Lab, or where white is 100.
    adaptive_compactness : bool, default=False
        SLICO: each segment's colours count relative to the largest distance from its mean
        in the rounds before; `compactness` is not used then.
    max_iter : int, default=10
        Rounds at most; they end when centres move by less than 6 % of their spacing.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.1
        Pieces smaller than this part of the mean size are joined to a neighbour, unless the
        mask isolates them.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in raster order. Each is one piece, connected over the sides of pixels
        (4 neighbours, in volumes 6).

    Notes
    -----
    Seeds lie on a grid of equal areas of the mask, each moved to the lowest gradient of its
    3 x 3 neighbourhood. In the rounds of k-means a pixel looks only at the centres that are
    within the grid's spacing of its tile of 8 x 8 pixels (in volumes 4 x 4 x 4), and all but
    the last look at averages of blocks where segments are large. Then the smallest connected
    pieces are joined one by one to the neighbour of most similar mean colour, until
    `n_segments` are left and none is too small. Ties go to the lower index and nothing is
    random. O(n_pixels * C * max_iter) time.

    References
    ----------
    .. [1] R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua and S. Süsstrunk, "SLIC
       superpixels compared to state-of-the-art superpixel methods", IEEE Trans. Pattern
       Anal. Mach. Intell. 34(11), 2274-2282, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import slic
    >>> slic(np.zeros((4, 4)), n_segments=4)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [2, 2, 3, 3],
           [2, 2, 3, 3]], dtype=int32)
    """
    caller = "slic"
    options = {
        "n_segments": n_segments,
        "compactness": compactness,
        "adaptive_compactness": adaptive_compactness,
        "max_iter": max_iter,
        "sigma": sigma,
        "color_space": color_space,
        "min_size_factor": min_size_factor,
        "data_range": data_range,
    }
    _check_parameters(caller, **options)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(image, mask, caller, **options)


class SLICSegmenter(Segmenter):
    """SLIC superpixels: compact, connected segments of about equal size [1]_.

    Parameters
    ----------
    n_segments : int, default=250
        How many to make.
    compactness : float, default=10.0
        Distance of colours that counts as much as the distance of two seeds: larger values
        give squarer segments. In units of Lab, or where white is 100.
    adaptive_compactness : bool, default=False
        SLICO: each segment's colours count relative to the largest distance from its mean
        in the rounds before; `compactness` is not used then.
    max_iter : int, default=10
        Rounds of k-means at most.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    min_size_factor : float, default=0.1
        Pieces smaller than this part of the mean size are joined to a neighbour, unless the
        mask isolates them.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.slic : The same as a function, with the details.

    References
    ----------
    .. [1] R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua and S. Süsstrunk, "SLIC
       superpixels compared to state-of-the-art superpixel methods", IEEE Trans. Pattern
       Anal. Mach. Intell. 34(11), 2274-2282, 2012.
    """

    traits = Traits(
        task="partition", family="clustering", year=2012, ndims=(2, 3), keeps_uint8=True
    )

    def __init__(
        self,
        n_segments: int = 250,
        *,
        compactness: float = 10.0,
        adaptive_compactness: bool = False,
        max_iter: int = 10,
        sigma: float = 0.0,
        color_space: str = "lab",
        min_size_factor: float = 0.1,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.n_segments = n_segments
        self.compactness = compactness
        self.adaptive_compactness = adaptive_compactness
        self.max_iter = max_iter
        self.sigma = sigma
        self.color_space = color_space
        self.min_size_factor = min_size_factor
        self.data_range = data_range
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> SLICSegmenter:
        """Make an instance with few segments and rounds.

        Returns
        -------
        SLICSegmenter
        """
        return cls(n_segments=16, max_iter=3)

    def _options(self):
        return {k: v for k, v in self.get_params().items() if k != "channel_axis"}

    def _check_params(self):
        _check_parameters(self._caller, **self._options())

    def _predict(self, image, mask, prompts):
        return _segment(image, mask, self._caller, **self._options())
