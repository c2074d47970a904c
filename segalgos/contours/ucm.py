"""Ultrametric contour maps: hierarchies of regions from the strength of contours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_int, check_real
from segalgos.color import find_data_range
from segalgos.contours.oriented_watershed import TOLERANCE, _check, _transform
from segalgos.hierarchy import Hierarchy
from segalgos.region_graph import region_graph
from segalgos.smoothing import gaussian

__all__ = ["CONTOURS", "ContourSource", "UCMSegmenter", "combine_hierarchies", "contour_hierarchy"]


class ContourSource(NamedTuple):
    """A function of the index that measures contours, by name: it is imported when it is needed.

    Parameters
    ----------
    function : str
        Called as ``function(image, data_range=, mask=, channel_axis=-1)``; gives a strength
        (H, W), or (K, H, W) for K orientations.
    level : float
        Where `UCMSegmenter` cuts if it is not told.
    sigma : float, default=0
        Standard deviation, in pixels, of what it smooths strengths with: where neighbouring
        pixels disagree a little, every pixel is a basin.
    """

    function: str
    level: float
    sigma: float = 0.0

    def load(self) -> Callable[..., NDArray]:
        """Import the function.

        Returns
        -------
        callable

        Raises
        ------
        ImportError
            If it needs torch, which is not installed.
        """
        import segalgos

        return getattr(segalgos, self.function)


#: Contours that `UCMSegmenter` knows by name.
CONTOURS: dict[str, ContourSource] = {
    "gradient": ContourSource("gradient_contours", level=16.0),
    "mpb": ContourSource("multiscale_pb", level=0.21, sigma=1.0),
    "gpb": ContourSource("globalized_pb", level=0.56, sigma=1.3),
    "structured_forest": ContourSource("structured_forest_contours", level=0.1, sigma=1.0),
    "net": ContourSource("net_contours", level=0.19, sigma=0.7),
}


def contour_hierarchy(
    strength: ArrayLike,
    *,
    orientation: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    mask: ArrayLike | None = None,
) -> Hierarchy:
    """Make a hierarchy of regions from the strength of contours (OWT-UCM).

    Parameters
    ----------
    strength : (H, W) or (K, H, W) array_like
        How strong a contour is at each pixel, of at least 0 and in any unit; or in each of K
        orientations: channel k is for contours at an angle of ``k * pi / K`` to the rows,
        counter-clockwise as one sees the image.
    orientation : (H, W) array_like, optional
        For a strength (H, W): the angle of the contour at each pixel, in radians as above;
        NaN where it has none. None estimates it by
        `segalgos.contours.oriented_watershed.contour_orientation`.
    tolerance : float, default=1.0
        So far may an arc be from the line segments that its orientation is taken from, in
        pixels.
    mask : (H, W) array_like of bool, optional
        True where pixels are to be segmented; all others get -1.

    Returns
    -------
    Hierarchy
        Its levels are strengths. ``hierarchy.ucm()`` is the ultrametric contour map.

    Raises
    ------
    ValueError
        If an argument is not as expected.

    See Also
    --------
    segalgos.oriented_watershed : The first half, with the details.
    segalgos.combine_hierarchies : One hierarchy from several.

    Notes
    -----
    The two regions with the weakest border between them are merged until none is left. A
    border's strength is the mean over its length, computed anew as borders are joined; levels
    are raised where they would fall [1]_. So regions of every level are connected and nested.
    O(n_pixels * K + n_basins log n_basins) time.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes and J. Malik, "Contour detection and hierarchical
       image segmentation", IEEE Trans. Pattern Anal. Mach. Intell. 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import contour_hierarchy
    >>> strength = np.zeros((5, 9))
    >>> strength[:, 3], strength[:, 6] = 2, 1
    >>> hierarchy = contour_hierarchy(strength)
    >>> hierarchy.levels
    array([1., 2.])
    >>> hierarchy.cut(level=1)[0]
    array([0, 0, 0, 0, 1, 1, 1, 1, 1], dtype=int32)
    """
    arguments = _check("contour_hierarchy", strength, orientation, tolerance, mask)
    return _transform(*arguments).hierarchy()


# --- several scales ----------------------------------------------------------------------


def _sample(regions: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """A label map at another size, by the nearest pixel."""
    if regions.shape == shape:
        return regions
    rows, columns = (
        ((np.arange(want) + 0.5) * have / want).astype(int)
        for want, have in zip(shape, regions.shape, strict=True)
    )
    return regions[np.ix_(rows, columns)]


def _project(regions: NDArray[np.int32], n: int, onto: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each of n regions, the one of another map that takes most of it; -1 for none."""
    onto = _sample(onto, regions.shape)
    both = (regions >= 0) & (onto >= 0)
    pairs, area = np.unique(regions[both].astype(np.int64) << 32 | onto[both], return_counts=True)
    order = np.lexsort((pairs, -area))[::-1]  # what is written last stays: the largest
    partner = np.full(n, -1, np.int64)
    partner[pairs[order] >> 32] = pairs[order] & 0xFFFFFFFF
    return partner


def combine_hierarchies(
    hierarchies: Sequence[Hierarchy], *, weights: Sequence[float] | None = None
) -> Hierarchy:
    """Combine hierarchies of one image, of several scales for instance, into one.

    Parameters
    ----------
    hierarchies : sequence of Hierarchy
        Of images (H, W). The first gives the base regions. Others may have another size: their
        maps are stretched over the first.
    weights : sequence of float, optional
        How much each counts, above 0; all alike by default. Levels should mean the same in
        all of them.

    Returns
    -------
    Hierarchy
        On the base regions of the first.

    Raises
    ------
    ValueError
        If there is none, one is of a volume, or weights are not as expected.
    TypeError
        If something else than a hierarchy is given.

    Notes
    -----
    Aligned as in [1]_, by snapping: each base region of the first hierarchy stands for that
    base region of another that takes most of it. A hierarchy of fewer base regions than the
    first is reached by way of those in between, from the finer to the coarser. Two touching
    regions are then as far apart as the weighted mean of the levels at which their partners
    merge: 0 where these are one and the same, and the highest level where they never merge. A
    hierarchy whose mask leaves a region out has no say about it. By these strengths regions
    are merged again, as in `segalgos.contour_hierarchy`.

    The paper snaps every level of a coarse hierarchy, not only its base regions.

    O(n_pixels log n_pixels) time for each.

    References
    ----------
    .. [1] J. Pont-Tuset, P. Arbelaez, J. T. Barron, F. Marques and J. Malik, "Multiscale
       combinatorial grouping for image segmentation and object proposal generation", IEEE
       Trans. Pattern Anal. Mach. Intell. 39(1), 128-140, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import Hierarchy, combine_hierarchies
    >>> fine = Hierarchy(np.array([[0, 1, 2, 3]]), [[0, 1], [2, 3], [4, 5]], [1, 1, 2])
    >>> coarse = Hierarchy(np.array([[0, 0, 0, 1]]), [[0, 1]], [4])
    >>> combine_hierarchies([fine, coarse]).levels
    array([0.5, 1. , 2.5])
    """
    caller = "combine_hierarchies"
    hierarchies = list(hierarchies)
    for i, hierarchy in enumerate(hierarchies):
        if not isinstance(hierarchy, Hierarchy):
            raise TypeError(
                f"{caller}: hierarchies[{i}] is a {type(hierarchy).__name__}, expected a Hierarchy."
            )
        if hierarchy.regions.ndim != 2:
            raise ValueError(
                f"{caller}: hierarchies[{i}] is of a volume {hierarchy.regions.shape}, expected "
                "one of an image (H, W)."
            )
    if not hierarchies:
        raise ValueError(f"{caller}: hierarchies is empty, expected at least one.")
    weights = np.ones(len(hierarchies)) if weights is None else np.asarray(weights, float)
    if weights.shape != (len(hierarchies),) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(
            f"{caller}: weights is {weights.tolist()}, expected {len(hierarchies)} finite numbers "
            "above 0: leave out hierarchies that are not to count."
        )
    return _combine(hierarchies, weights)


def _combine(hierarchies: list[Hierarchy], weights: NDArray[np.float64]) -> Hierarchy:
    first = hierarchies[0]
    graph = region_graph(first.regions)
    one = np.repeat(np.arange(graph.n_regions), np.diff(graph.indptr))
    other = graph.indices
    total, count = np.zeros(len(one)), np.zeros(len(one))
    # From the finer to the coarser: where regions stood last is where the next step begins.
    order = sorted(range(len(hierarchies)), key=lambda i: (-hierarchies[i].n_regions, i))
    before, place = first, np.arange(graph.n_regions)
    for i in order:
        hierarchy = hierarchies[i]
        if i == 0:
            partner = np.arange(graph.n_regions)
        elif hierarchy.n_regions >= first.n_regions:
            partner = _project(first.regions, first.n_regions, hierarchy.regions)
        else:
            step = _project(before.regions, before.n_regions, hierarchy.regions)
            partner = np.append(step, -1)[place]
            before, place = hierarchy, partner
        a, b = partner[one], partner[other]
        known = (a >= 0) & (b >= 0)
        highest = hierarchy.levels.max(initial=0)
        levels = np.minimum(hierarchy.merge_levels(a[known], b[known]), highest)
        total[known] += weights[i] * levels
        count[known] += weights[i]
    return graph.hierarchy(weight=total / count)


# --- the segmenter -----------------------------------------------------------------------


def _resize(image, mask, scale):
    """Image and mask at another scale; what the mask hides has no influence."""
    from skimage.transform import resize

    height, width = (max(1, round(scale * n)) for n in image.shape[:2])

    def stretch(values):
        out = resize(
            values.astype(np.float32),
            (height, width, values.shape[-1]),
            order=1,
            mode="edge",
            anti_aliasing=scale < 1,
            preserve_range=True,
        )
        return out.astype(np.float32)

    if mask is None:
        return stretch(image), None
    share = stretch(mask[..., None])
    inside = share[..., 0] > 0.5
    values = stretch(np.where(mask[..., None], image, 0)) / np.where(inside[..., None], share, 1)
    return np.where(inside[..., None], values, 0), inside


def _smooth(strength, sigma, mask):
    """Smooth a strength (H, W), or each orientation of (K, H, W)."""
    planes = strength.reshape(-1, *strength.shape[-2:], 1)
    smooth = [gaussian(plane, sigma, mask) for plane in planes]
    return np.stack(smooth).reshape(strength.shape)


class UCMSegmenter(Segmenter):
    """Hierarchies of regions from contours (OWT-UCM) [1]_, cut at one level.

    Parameters
    ----------
    contours : {"gradient", "mpb", "gpb", "structured_forest", "net"} or callable, \
            default="gradient"
        What measures contours. "gradient" is `segalgos.gradient_contours`, simple and quick.
        "mpb" is `segalgos.multiscale_pb`, which knows texture, too, and "gpb"
        `segalgos.globalized_pb`, which also looks at the image as a whole. "structured_forest" is
        `segalgos.structured_forest_contours` and "net" `segalgos.net_contours` (needs torch):
        both have learned what people draw. These four take grey images and colour ones. A
        function is called with the image (H, W, C) and gives strengths (H, W) or (K, H, W), as
        `segalgos.contour_hierarchy` takes them.
    n_segments : int, optional
        Cut so that this many regions are left; fewer if there are fewer basins, more if the
        mask lies in more pieces.
    level : float, optional
        Cut at this strength: all weaker contours go. Without it, `n_segments` and `min_area`,
        contours with a name have a level of their own; for "gradient" it is 16.
    min_area : int, optional
        Cut so that no region has fewer pixels, where that can be.
    scales : sequence of float, default=(1.0,)
        Sizes of the image at which contours are measured; 1 must be one of them. Several are
        combined by `segalgos.combine_hierarchies`.
    tolerance : float, default=1.0
        So far may an arc be from the line segments that its orientation is taken from, in
        pixels.
    data_range : float, optional
        Value of white in the images, for contours with a name; found for each by
        `segalgos.color.data_range_of` if None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    See Also
    --------
    segalgos.contour_hierarchy : The method itself, on any strength of contours.
    segalgos.Hierarchy : What `hierarchy` gives: cut it again and again.

    Notes
    -----
    With prompts the result has their ids, spread by ``Hierarchy.cut(scribbles=...)``.

    Contours with a name but "gradient" are smoothed by a Gaussian of about a pixel before they are
    parted into basins; those of a callable are taken as they are. A callable sees pixels outside
    the mask as 0.

    References
    ----------
    .. [1] P. Arbelaez, M. Maire, C. Fowlkes and J. Malik, "Contour detection and hierarchical
       image segmentation", IEEE Trans. Pattern Anal. Mach. Intell. 33(5), 898-916, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import UCMSegmenter
    >>> image = np.zeros((20, 20))
    >>> image[:, 8:14], image[:, 14:] = 0.5, 1
    >>> segmenter = UCMSegmenter(n_segments=2)
    >>> len(np.unique(segmenter.predict(image)))
    2
    >>> hierarchy = segmenter.hierarchy(image)
    >>> len(np.unique(hierarchy.cut(n_segments=3)))
    3
    """

    traits = Traits(
        task="partition", family="contours", year=2011, takes_prompts=True, keeps_uint8=True
    )

    def __init__(
        self,
        contours: str | Callable[[NDArray], ArrayLike] = "gradient",
        *,
        n_segments: int | None = None,
        level: float | None = None,
        min_area: int | None = None,
        scales: Sequence[float] = (1.0,),
        tolerance: float = TOLERANCE,
        data_range: float | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.contours = contours
        self.n_segments = n_segments
        self.level = level
        self.min_area = min_area
        self.scales = scales
        self.tolerance = tolerance
        self.data_range = data_range
        self.channel_axis = channel_axis

    def _check_params(self):
        caller, contours = self._caller, self.contours
        if not callable(contours) and not (isinstance(contours, str) and contours in CONTOURS):
            raise ValueError(
                f"{caller}: contours is {contours!r}, expected one of "
                f"{', '.join(map(repr, CONTOURS))}, or a function of the image."
            )
        cuts = self._cuts()
        if len(cuts) > 1:
            raise ValueError(
                f"{caller}: got {' and '.join(cuts)}, expected one of n_segments, level and "
                "min_area at most."
            )
        if callable(contours) and not cuts:
            raise ValueError(
                f"{caller}: contours is a function, whose strengths may be of any size: pass "
                "n_segments, level or min_area."
            )
        if self.n_segments is not None:
            check_int(caller, "n_segments", self.n_segments, low=1)
        if self.level is not None:
            check_real(caller, "level", self.level)
        if self.min_area is not None:
            check_int(caller, "min_area", self.min_area, low=0)
        scales = self.scales
        if isinstance(scales, str) or not hasattr(scales, "__len__") or 1 not in tuple(scales):
            raise ValueError(
                f"{caller}: scales is {scales!r}, expected numbers of which one is 1, like "
                "(1, 0.5)."
            )
        for i, scale in enumerate(scales):
            check_real(caller, f"scales[{i}]", scale, low=0.05, high=4)
        check_real(caller, "tolerance", self.tolerance, low=0)
        if self.data_range is not None:
            check_real(caller, "data_range", self.data_range, above=0)

    def _cuts(self) -> dict[str, Any]:
        """The ways to cut that were asked for."""
        names = ("n_segments", "level", "min_area")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def hierarchy(self, images: Any, *, mask: Any = None) -> Any:
        """Give the whole hierarchy instead of one cut.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        mask : array_like of bool or sequence of these, optional
            True where pixels are to be segmented.

        Returns
        -------
        Hierarchy or list of Hierarchy

        Raises
        ------
        ValueError
            If an image, the mask or a parameter is not as expected.
        """

        def one(image, mask, prompts, name):
            image, mask, _ = self._clean_predict_input(image, mask, prompts, name)
            return self._hierarchy(image, mask)

        return self._map(one, images, None, mask)

    def _hierarchy(self, image, mask):
        if mask is not None:
            image = np.where(mask[..., None], image, 0).astype(image.dtype)
        data_range = self.data_range
        if not callable(self.contours):
            data_range = find_data_range(image, mask, data_range, self._caller)
        scales = [1.0, *(scale for scale in self.scales if scale != 1)]
        found = []
        for scale in scales:
            part = (image, mask) if scale == 1 else _resize(image, mask, scale)
            if part[1] is not None and not part[1].any():
                continue  # the mask is thinner than a pixel of this size
            strength, known = self._strength(*part, data_range), part[1]
            arguments = _check(self._caller, strength, None, self.tolerance, known)
            found.append(_transform(*arguments).hierarchy())
        if len(found) == 1:
            return found[0]
        return _combine(found, np.ones(len(found)))

    def _strength(self, image, mask, data_range):
        if callable(self.contours):
            strength = np.asarray(self.contours(image))
        else:
            source = CONTOURS[self.contours]
            strength = source.load()(image, data_range=data_range, mask=mask, channel_axis=-1)
            if source.sigma > 0:
                strength = _smooth(strength, source.sigma, mask)
        if strength.shape[-2:] != image.shape[:2]:
            raise ValueError(
                f"{self._caller}: contours gave a strength of shape {strength.shape} for an image "
                f"of {image.shape[:2]}, expected (H, W) or (K, H, W) of its size."
            )
        return strength

    def _predict(self, image, mask, prompts):
        hierarchy = self._hierarchy(image, mask)
        if prompts is not None:
            return hierarchy.cut(scribbles=prompts.seeds(image.shape[:2]))
        cut = self._cuts() or {"level": CONTOURS[self.contours].level}
        if self.n_segments is not None:
            n = hierarchy.n_regions
            cut = {"n_segments": min(max(self.n_segments, n - len(hierarchy.merges)), n)}
        return hierarchy.cut(**cut)
