"""Mean shift in the joint domain of space and colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_choice, check_image, check_int, check_mask, check_real
from segalgos.clustering._fusion import fuse
from segalgos.clustering._joint_domain import (
    COLOR,
    WEIGHT,
    Window,
    average,
    find_modes,
    make_points,
)
from segalgos.color import find_data_range, rescale, rgb_to_lab
from segalgos.smoothing import gaussian

__all__ = ["MeanShiftSegmenter", "mean_shift", "mean_shift_filter"]

WHITE = 100.0  # of channels that are not Lab, so that range_bandwidth means the same for them

# The grid: side of a cell in spatial bandwidths, but at most so many pixels; how unlike
# the pixels of a point, and a point and a trajectory that takes it along, may be in range
# bandwidths. On photographs, regions follow people's no worse than the exact ones.
CELL = {"flat": 1 / 4, "gaussian": 1 / 2}
LARGEST_CELL = 32
POOLED = 1 / 2
CAUGHT = 1 / 2

# Fusion, in range bandwidths: modes this near are one, which was found twice, and regions
# of modes this near are one. A Gaussian is about twice as wide as its bandwidth.
ONE_MODE = 0.1
FUSED = {"flat": 1.0, "gaussian": 2.0}


def _check_parameters(
    caller,
    spatial_bandwidth,
    range_bandwidth,
    kernel,
    algorithm,
    min_size,
    max_iter,
    sigma,
    color_space,
    data_range,
):
    check_real(caller, "spatial_bandwidth", spatial_bandwidth, low=0.1, high=1e6)
    check_real(caller, "range_bandwidth", range_bandwidth, low=1e-6, high=1e12)
    check_choice(caller, "kernel", kernel, ("flat", "gaussian"))
    check_choice(caller, "algorithm", algorithm, ("grid", "exact"))
    check_int(caller, "min_size", min_size, low=0)
    check_int(caller, "max_iter", max_iter, low=1)
    check_real(caller, "sigma", sigma, low=0, high=1000)
    check_choice(caller, "color_space", color_space, ("lab", "rgb"))
    if data_range is not None:
        check_real(caller, "data_range", data_range, above=0)


def _features(image, mask, sigma, color_space, data_range, caller):
    """Colours (D, H, W, C) float32, smoothed, in the units of range_bandwidth."""
    data_range = find_data_range(image, mask, data_range, caller)
    if sigma > 0:
        plane = image.shape[0] == 1
        inside = mask[0] if plane else mask
        image = rescale(image[0] if plane else image, data_range, WHITE)
        image = gaussian(image, sigma, None if inside.all() else inside).reshape(*mask.shape, -1)
        data_range = WHITE
    if color_space == "lab" and image.shape[-1] == 3:
        return rgb_to_lab(image, data_range)
    return rescale(image, data_range, WHITE)


def _make_points(features, mask, spatial_bandwidth, range_bandwidth, kernel, algorithm):
    """Make points of pixels and say how they catch one another.

    Returns
    -------
    points, starts, point_of
        As `make_points` gives them.
    window : Window
    catch : float
        As `find_modes` takes it.
    """
    share = CELL[kernel] if algorithm == "grid" else 0.5
    side = min(max(round(spatial_bandwidth * share), 1), LARGEST_CELL)
    cell = np.minimum(side, mask.shape)
    if algorithm == "grid":
        radius, catch = POOLED * range_bandwidth, CAUGHT * range_bandwidth
    else:
        cell[2] = 1  # a window then reads few pixels beside it, in long runs
        radius, catch = -1.0, 0.0
    points, starts, point_of = make_points(features, mask, cell, radius)
    longest = int((starts[..., -1] - starts[..., 0]).max())
    gaussian = kernel == "gaussian"
    window = Window(cell, gaussian, float(spatial_bandwidth), float(range_bandwidth), longest)
    return points, starts, point_of, window, catch


def _as_volume(image, mask):
    """Image (D, H, W, C) and mask (D, H, W), the image zero outside it."""
    if mask is not None:
        image = np.where(mask[..., None], image, image.dtype.type(0))
    shape = (1,) * (4 - image.ndim) + image.shape
    inside = np.ones(shape[:-1], bool) if mask is None else mask.reshape(shape[:-1])
    return image.reshape(shape), inside


def _segment(image, mask, caller, *, min_size, sigma, color_space, data_range, max_iter, **options):
    """Segment a checked image; see `mean_shift`."""
    volume, inside = _as_volume(image, mask)
    features = _features(volume, inside, sigma, color_space, data_range, caller)
    points, starts, point_of, window, catch = _make_points(features, inside, **options)
    modes, _ = find_modes(points, starts, window, max_iter, catch)
    colors = np.ascontiguousarray(modes[:, COLOR:])
    bandwidth, near = options["range_bandwidth"], FUSED[options["kernel"]]
    labels = fuse(point_of, colors, ONE_MODE * bandwidth, near * bandwidth, min_size)
    return labels.reshape(image.shape[:-1])


def _filter(image, mask, caller, *, color_space, data_range, max_iter, **options):
    """Filter a checked image; see `mean_shift_filter`."""
    volume, inside = _as_volume(image, mask)
    features = _features(volume, inside, 0.0, color_space, data_range, caller)
    points, starts, point_of, window, catch = _make_points(features, inside, **options)
    modes, origins = find_modes(points, starts, window, max_iter, catch)
    flat = point_of.ravel()
    pixels = volume.reshape(flat.size, -1)
    number = points[WEIGHT]
    own = flat[flat >= 0]
    values = np.empty((pixels.shape[1], len(number)), np.float32)
    for c in range(len(values)):
        values[c] = np.bincount(own, pixels[flat >= 0, c], len(number)) / number
    averages = average(points, starts, window, modes, origins, values)
    if image.dtype == np.uint8:
        averages = np.rint(averages).astype(np.uint8)
    filtered = averages[flat].reshape(image.shape)
    return filtered if mask is None else np.where(mask[..., None], filtered, image)


def mean_shift(
    image: ArrayLike,
    spatial_bandwidth: float = 32.0,
    range_bandwidth: float = 9.0,
    *,
    kernel: str = "flat",
    algorithm: str = "grid",
    min_size: int = 100,
    max_iter: int = 100,
    sigma: float = 0.0,
    color_space: str = "lab",
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Segment an image by the modes of its density in the joint domain of space and colour.

    From every pixel one moves to the mean of the pixels that are near it both in space and
    in colour, again and again, to a mode of their density. Regions are made of neighbours
    whose modes are of like colour.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    spatial_bandwidth : float, default=32.0
        Radius of the kernel in space, in pixels: larger values give larger regions.
    range_bandwidth : float, default=9.0
        Radius of the kernel in colour: larger values let less contrast count. In units of
        Lab, or where white is 100.
    kernel : {"flat", "gaussian"}, default="flat"
        "flat" weighs all pixels within both bandwidths alike. For "gaussian" bandwidths are
        standard deviations, cut off at three: about half the bandwidths of "flat" give like
        regions, and it takes longer.
    algorithm : {"grid", "exact"}, default="grid"
        "grid" pools like pixels that lie near together and lets trajectories join. "exact"
        follows the shift from every pixel among all pixels.
    min_size : int, default=100
        Regions of fewer pixels are joined to a neighbour, unless the mask isolates them.
    max_iter : int, default=100
        Largest number of steps from a pixel. Most trajectories end after five to twenty.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first. On photographs
        1 lets regions follow people's better.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1 in raster order, each one piece over the sides of pixels; -1 outside the
        mask.

    See Also
    --------
    mean_shift_filter : The image in the colours of its modes.

    Notes
    -----
    The kernel is the paper's product of two radial ones, eq. (35). A trajectory ends when
    its step is below 0.01 bandwidths, in space and colour together.

    Fusion: pixels that touch over their sides with modes within a tenth of
    `range_bandwidth` are one region; touching regions with modes within `range_bandwidth`
    ("gaussian": twice that) are joined, transitively; then, from the smallest, regions below
    `min_size` go to the one of nearest mode that they touch. A region's mode is the mean of
    those of its pixels.

    "exact" is the paper's procedure up to rounding in float32. "grid" is approximate in two
    ways. Pixels in one cell of space (sides of a quarter of `spatial_bandwidth`, for
    "gaussian" a half) within half of `range_bandwidth` of the cell's first such pixel
    become one point, at their mean and with their number as weight; shifts begin at points
    and average points. And points that a trajectory passes (in the same cell, within half of
    `range_bandwidth`) go to its mode, or it to theirs. Only points of one strip of 8192 are
    joined so, hence threads change nothing. Its regions follow people's as well as those of
    "exact" do.

    O(n_points * steps * points in a window) time, where "exact" has a point a pixel.

    References
    ----------
    .. [1] D. Comaniciu and P. Meer, "Mean shift: a robust approach toward feature space
       analysis", IEEE Trans. Pattern Anal. Mach. Intell. 24(5), 603-619, 2002.
    .. [2] C. M. Christoudias, B. Georgescu and P. Meer, "Synergism in low level vision",
       International Conference on Pattern Recognition, 2002: trajectories that join.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import mean_shift
    >>> image = np.zeros((8, 8))
    >>> image[:, 5:] = 1
    >>> mean_shift(image, min_size=0)[0]
    array([0, 0, 0, 0, 0, 1, 1, 1], dtype=int32)
    """
    caller = "mean_shift"
    options = {
        "spatial_bandwidth": spatial_bandwidth,
        "range_bandwidth": range_bandwidth,
        "kernel": kernel,
        "algorithm": algorithm,
        "min_size": min_size,
        "max_iter": max_iter,
        "sigma": sigma,
        "color_space": color_space,
        "data_range": data_range,
    }
    _check_parameters(caller, **options)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    return _segment(image, mask, caller, **options)


def mean_shift_filter(
    image: ArrayLike,
    spatial_bandwidth: float = 8.0,
    range_bandwidth: float = 8.0,
    *,
    kernel: str = "flat",
    algorithm: str = "grid",
    max_iter: int = 100,
    color_space: str = "lab",
    data_range: float | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Smooth an image and keep its edges: every pixel takes the colour of its mode.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    spatial_bandwidth : float, default=8.0
        Radius of the kernel in space, in pixels.
    range_bandwidth : float, default=8.0
        Radius of the kernel in colour: edges of more contrast are kept. In units of Lab, or
        where white is 100.
    kernel : {"flat", "gaussian"}, default="flat"
        "flat" weighs all pixels within both bandwidths alike. For "gaussian" bandwidths are
        standard deviations, cut off at three.
    algorithm : {"grid", "exact"}, default="grid"
        As in `mean_shift`.
    max_iter : int, default=100
        Largest number of steps from a pixel.
    color_space : {"lab", "rgb"}, default="lab"
        Where colours are compared: "lab" converts images of three channels to CIE Lab.
    data_range : float, optional
        Value of white in `image`; found by `segalgos.color.data_range_of` if None.
    mask : array_like of bool, optional
        True where pixels are to be filtered; all others stay as they are and have no
        influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    ndarray of uint8 or float32
        Of the image's shape and in its units: the mean of the image's own values, weighted
        by the kernel around each pixel's mode. uint8, rounded, if the image is.

    See Also
    --------
    mean_shift : Regions of these modes, with the details.

    References
    ----------
    .. [1] D. Comaniciu and P. Meer, "Mean shift: a robust approach toward feature space
       analysis", IEEE Trans. Pattern Anal. Mach. Intell. 24(5), 603-619, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import mean_shift_filter
    >>> image = np.array([[10, 12, 11, 80, 82, 81]], np.uint8)
    >>> mean_shift_filter(image, data_range=255)
    array([[11, 11, 11, 81, 81, 81]], dtype=uint8)
    """
    caller = "mean_shift_filter"
    options = {
        "spatial_bandwidth": spatial_bandwidth,
        "range_bandwidth": range_bandwidth,
        "kernel": kernel,
        "algorithm": algorithm,
        "max_iter": max_iter,
        "color_space": color_space,
        "data_range": data_range,
    }
    _check_parameters(caller, min_size=0, sigma=0.0, **options)
    shape = np.shape(image)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    if mask is not None:
        mask = check_mask(mask, image.shape[:-1], caller)
    filtered = _filter(image, mask, caller, **options)
    if isinstance(channel_axis, str | None):
        return filtered.reshape(shape)
    return np.ascontiguousarray(np.moveaxis(filtered, -1, channel_axis))


class MeanShiftSegmenter(Segmenter):
    """Mean shift in space and colour, and fusion of what has like modes [1]_.

    Parameters
    ----------
    spatial_bandwidth : float, default=32.0
        Radius of the kernel in space, in pixels: larger values give larger regions.
    range_bandwidth : float, default=9.0
        Radius of the kernel in colour: larger values let less contrast count. In units of
        Lab, or where white is 100.
    kernel : {"flat", "gaussian"}, default="flat"
        "flat" weighs all pixels within both bandwidths alike. For "gaussian" bandwidths are
        standard deviations, cut off at three.
    algorithm : {"grid", "exact"}, default="grid"
        "grid" pools like pixels that lie near together and lets trajectories join. "exact"
        follows the shift from every pixel among all pixels.
    min_size : int, default=100
        Regions of fewer pixels are joined to a neighbour, unless the mask isolates them.
    max_iter : int, default=100
        Largest number of steps from a pixel.
    sigma : float, default=0.0
        Standard deviation in pixels of a Gaussian that smooths the image first.
    color_space : {"lab", "rgb"}, default="lab"
        "lab" converts images of three channels to CIE Lab; all others, and "rgb", are used
        as they are, in units where white is 100.
    data_range : float, optional
        Value of white in the images; found for each by `segalgos.color.data_range_of` if
        None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.mean_shift : The same as a function, with the details.

    References
    ----------
    .. [1] D. Comaniciu and P. Meer, "Mean shift: a robust approach toward feature space
       analysis", IEEE Trans. Pattern Anal. Mach. Intell. 24(5), 603-619, 2002.
    """

    traits = Traits(
        task="partition", family="clustering", year=2002, ndims=(2, 3), keeps_uint8=True
    )

    def __init__(
        self,
        spatial_bandwidth: float = 32.0,
        range_bandwidth: float = 9.0,
        *,
        kernel: str = "flat",
        algorithm: str = "grid",
        min_size: int = 100,
        max_iter: int = 100,
        sigma: float = 0.0,
        color_space: str = "lab",
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.spatial_bandwidth = spatial_bandwidth
        self.range_bandwidth = range_bandwidth
        self.kernel = kernel
        self.algorithm = algorithm
        self.min_size = min_size
        self.max_iter = max_iter
        self.sigma = sigma
        self.color_space = color_space
        self.data_range = data_range
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> MeanShiftSegmenter:
        """Make an instance with a small kernel and few steps.

        Returns
        -------
        MeanShiftSegmenter
        """
        return cls(spatial_bandwidth=6.0, range_bandwidth=12.0, min_size=10, max_iter=10)

    def _options(self):
        return {k: v for k, v in self.get_params().items() if k != "channel_axis"}

    def _check_params(self):
        _check_parameters(self._caller, **self._options())

    def _predict(self, image, mask, prompts):
        return _segment(image, mask, self._caller, **self._options())
