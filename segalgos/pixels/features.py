"""Filter responses that describe a pixel by its surroundings, at several scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_bool, check_image, check_int, check_real
from segalgos.color import data_range_of, rgb_to_lab
from segalgos.parallel import map_strips
from segalgos.pixels._filters import gaussian_taps
from segalgos.pixels._scale import STRIP, Scale, interleave, split, whole_step

__all__ = ["KINDS", "PixelFeatures", "feature_names", "pixel_features"]

COLOUR = ("gaussian", "gradient", "mean")  # of each channel, always
TEXTURE = ("laplacian", "difference", "structure", "hessian", "deviation", "median")
PLACE = ("lab", "position")  # of the pixel itself, at no scale
KINDS = (*COLOUR, *TEXTURE, *PLACE)
DEFAULT_FEATURES = ("gaussian", "gradient", "laplacian", "deviation", "structure", "hessian")
COLOUR_FEATURES = (*DEFAULT_FEATURES, "lab")  # where there are three channels

ORDERS = {"gradient": 1, "structure": 1, "laplacian": 2, "hessian": 2}  # of derivatives
MAX_SIGMA = 1000  # pixels; a window's cost grows with it


# --- which features, and what they are called --------------------------------------------


def _kinds(features: Sequence[str] | None, n_channels: int) -> Sequence[str]:
    """The kinds that were asked for, or by default."""
    if features is not None:
        return features
    return COLOUR_FEATURES if n_channels == 3 else DEFAULT_FEATURES


def _groups(
    features: Sequence[str], per_channel: bool, n_channels: int, ndim: int
) -> Iterator[tuple[str, int | None, int]]:
    """What is computed at one scale: kind, channel (None for their mean), columns."""
    for kind in features:
        if kind in PLACE:
            continue
        columns = ndim if kind in ("structure", "hessian") else 1
        channels = range(n_channels) if kind in COLOUR or per_channel else [None]
        for channel in channels:
            yield kind, channel, columns


def feature_names(
    n_channels: int,
    scales: Sequence[float] = (1, 2, 4, 8),
    ndim: int = 2,
    *,
    features: Sequence[str] | None = None,
    per_channel: bool = False,
    n_extra: int = 0,
) -> list[str]:
    """Name the features in the order of `pixel_features`.

    Parameters
    ----------
    n_channels : int
    scales : sequence of float, default=(1, 2, 4, 8)
    ndim : {2, 3}, default=2
        Spatial axes.
    features : sequence of str, optional
        Kinds.
    per_channel : bool, default=False
    n_extra : int, default=0
        Features that ``extra`` gives.

    Returns
    -------
    list of str
        Like ``"gradient[0] 2"``, ``"hessian1 4"`` or ``"position0"``: kind, which of its
        numbers if there are several, channel (none for the channels' mean), scale.
    """
    names, features = [], _kinds(features, n_channels)
    for scale in scales:
        for kind, channel, columns in _groups(features, per_channel, n_channels, ndim):
            where = "" if channel is None else f"[{channel}]"
            numbers = [""] if columns == 1 else range(columns)
            names += [f"{kind}{number}{where} {scale:g}" for number in numbers]
    for kind in features:
        if kind in PLACE:
            names += [f"{kind}{i}" for i in range(3 if kind == "lab" else ndim)]
    return names + [f"extra{i}" for i in range(n_extra)]


@dataclass(frozen=True, eq=False)
class _AtScale:
    """The features that are wanted at one scale."""

    scale: float
    groups: list[tuple[str, int | None, int]]  # what has to be computed
    columns: list[int]  # those of its columns that are wanted
    units: NDArray[np.float32]  # what each of these is multiplied by
    first: int  # place of the first of these in the output


# --- all of them -------------------------------------------------------------------------


@dataclass(frozen=True)
class PixelFeatures:
    """Which features describe a pixel, checked.

    Parameters
    ----------
    scales : tuple of float
    features : tuple of str or None
    per_channel : bool
    spacing : tuple of float or None
    extra : callable or None
        All as in `pixel_features`.
    caller : str
        For messages about an image that does not fit.
    chosen : tuple of int, optional
        Places of those that are wanted, ascending; what none of them needs is not computed.
        All if None.
    """

    scales: tuple[float, ...]
    features: tuple[str, ...] | None = None
    per_channel: bool = False
    spacing: tuple[float, ...] | None = None
    extra: Callable[[NDArray], NDArray] | None = None
    caller: str = "PixelFeatures"
    chosen: tuple[int, ...] | None = None

    @classmethod
    def checked(
        cls,
        caller: str,
        scales: Any,
        features: Any = None,
        per_channel: Any = False,
        spacing: Any = None,
        extra: Any = None,
    ) -> Self:
        """Check what a user chose.

        Parameters
        ----------
        caller : str
            For the messages.
        scales : sequence of float
        features : sequence of str or None
        per_channel : bool
        spacing : sequence of float or None
        extra : callable or None

        Returns
        -------
        PixelFeatures

        Raises
        ------
        TypeError, ValueError
            If a choice is not as expected.
        """
        if spacing is not None:
            spacing = _check_numbers(caller, "spacing", spacing, "the size of a pixel along each")
            if len(spacing) not in (2, 3):
                raise ValueError(
                    f"{caller}: spacing has {len(spacing)} numbers, expected one for each of the "
                    "2 or 3 spatial axes."
                )
        scales = _check_numbers(caller, "scales", scales, "standard deviations, like (1, 2, 4)")
        for i, scale in enumerate(scales):
            if scale in scales[:i]:
                raise ValueError(f"{caller}: scales[{i}] is {scale:g} again: pass each scale once.")
            if scale > MAX_SIGMA * min(spacing or (1,)):
                raise ValueError(
                    f"{caller}: scales[{i}] is {scale:g}, expected at most {MAX_SIGMA} pixels: "
                    "shrink the image first."
                )
        if extra is not None:
            if not callable(extra):
                raise TypeError(
                    f"{caller}: extra is {extra!r}, expected a function of an image or None."
                )
            if getattr(extra, "halo", None) is not None:
                check_int(caller, "extra.halo", extra.halo, low=0)
        if features is not None:
            features = _check_features(caller, features, extra)
        per_channel = check_bool(caller, "per_channel", per_channel)
        return cls(scales, features, per_channel, spacing, extra, caller)

    def names(self, n_channels: int, ndim: int, n_extra: int = 0) -> list[str]:
        """Name the features, in their order.

        Parameters
        ----------
        n_channels : int
        ndim : {2, 3}
            Spatial axes.
        n_extra : int, default=0
            How many features `extra` gives.

        Returns
        -------
        list of str
        """
        names = feature_names(
            n_channels,
            self.scales,
            ndim,
            features=self.features,
            per_channel=self.per_channel,
            n_extra=n_extra,
        )
        if self.chosen is None:
            return names
        if max(self.chosen) >= len(names):
            raise ValueError(
                f"{self.caller}: the image gives {len(names)} features, fewer than those of which "
                "some were selected: use images with as many axes as in fit."
            )
        return [names[i] for i in self.chosen]

    def halo(self, ndim: int) -> tuple[int, ...] | None:
        """Count the pixels around a tile that its features depend on, along each axis.

        Parameters
        ----------
        ndim : {2, 3}

        Returns
        -------
        tuple of int or None
            None if `extra` does not say how far it looks: the whole image is then needed,
            so that tiles cost more than they save.
        """
        if self.extra is None:
            return self._reach(ndim)
        extra = getattr(self.extra, "halo", None)
        return None if extra is None else tuple(max(r, int(extra)) for r in self._reach(ndim))

    def _reach(self, ndim):
        """How far the filters look, in pixels along each axis."""
        reach, kinds = [], _kinds(self.features, 1)  # lab looks no farther than its pixel
        for size in self.spacing or (1.0,) * ndim:
            farthest = 0
            for scale in self.scales:
                radius, step = len(gaussian_taps(scale / size)) - 1, whole_step(scale / size)
                of_kind = {
                    "gaussian": radius,
                    "difference": radius,
                    "gradient": radius + 1,
                    "laplacian": radius + 2,
                    "hessian": radius + 2,
                    "structure": 2 * radius + 1,
                    "median": radius + step,
                    "mean": step,
                    "deviation": step,
                }
                farthest = max([farthest, *(of_kind.get(kind, 0) for kind in kinds)])
            reach.append(farthest)
        return tuple(reach)

    def compute(
        self,
        image: NDArray,
        region: tuple[slice, ...] | None = None,
        peak: float | None = None,
    ) -> NDArray[np.float32]:
        """Compute the features of an image that has been checked, or of a part of it.

        Parameters
        ----------
        image : (H, W, C) or (D, H, W, C) uint8 or float32
            The whole image.
        region : tuple of slice, optional
            The part whose features are wanted, a slice a spatial axis; no more of the image
            is looked at than `halo` around it.
        peak : float, optional
            `peak_of` the whole image, which saves finding it anew for each part.

        Returns
        -------
        (h, w, F) or (d, h, w, F) float32
            The same numbers, to the last bit, as in the whole image's features.

        Raises
        ------
        ValueError
            If the image does not have the axes or channels that the choice needs, or
            `extra` gives something unexpected.
        """
        *shape, n_channels = image.shape
        ndim = len(shape)
        self._check_fits(n_channels, ndim)
        region = region or (slice(None),) * ndim
        region = tuple(slice(*s.indices(n)[:2]) for s, n in zip(region, shape, strict=True))
        extra = self._extra(image, region)
        n_extra = 0 if extra is None else extra.shape[-1]
        n_features = len(self.names(n_channels, ndim, n_extra))
        out = np.empty((*(s.stop - s.start for s in region), n_features), np.float32)
        peak = peak_of(image) if peak is None else peak
        column, place = self._filter(image, region, peak, out)
        for values in self._at_no_scale(image, region, peak, extra):
            if self.chosen is None or place in self.chosen:
                out[..., column] = values
                column += 1
            place += 1
        return out

    def _at_no_scale(self, image, region, peak, extra):
        """Each feature that is not of a scale."""
        shape = image.shape[:-1]
        for kind in _kinds(self.features, image.shape[-1]):
            if kind == "lab":
                white = data_range_of(np.array([peak]))
                colours = np.ascontiguousarray(np.maximum(image[region], 0))
                yield from np.moveaxis(rgb_to_lab(colours, white), -1, 0)
            elif kind == "position":
                for axis, (part, n) in enumerate(zip(region, shape, strict=True)):
                    along = (np.arange(part.start, part.stop) + 0.5) / n
                    yield along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        if extra is not None:
            yield from np.moveaxis(extra, -1, 0)

    def _check_fits(self, n_channels, ndim):
        if self.spacing is not None and len(self.spacing) != ndim:
            raise ValueError(
                f"{self.caller}: spacing has {len(self.spacing)} numbers, but the image has {ndim} "
                "spatial axes: pass one for each, or channel_axis."
            )
        if "lab" in (self.features or ()) and n_channels != 3:
            raise ValueError(
                f"{self.caller}: features has 'lab', but the image has {n_channels} channels, "
                "expected 3 (red, green, blue): leave 'lab' out."
            )

    def _filter(self, image, region, peak, out):
        """Fill the first columns of `out` with all scales.

        Gives how many these are, and how many there would be if all were chosen.
        """
        ndim, n_channels = image.ndim - 1, image.shape[-1]
        groups = list(
            _groups(_kinds(self.features, n_channels), self.per_channel, n_channels, ndim)
        )
        if not groups:
            return 0, 0
        # Work near 1 so that squares of huge values stay finite; a power of two is exact.
        unit = 2.0 ** np.floor(np.log2(peak)) if peak > 0 else 1.0
        window = _grown(region, self._reach(ndim), image.shape[:-1])
        planes, texture = self._planes(image[window], groups, np.float32(unit))
        depth, height, width = planes.shape[1:]
        inner = _within(region, window)
        rows = np.arange(depth * height).reshape(depth, height)
        rows = np.ascontiguousarray(rows[(*inner[:-1],) if ndim == 3 else (0, inner[0])]).ravel()
        begin = inner[-1].start
        out_rows = out.reshape(len(rows), -1, out.shape[-1])

        sizes = self.spacing or (1.0,) * ndim
        finest = min(sizes)  # derivatives are taken per finest pixel and converted at the end
        weights = np.zeros(3, np.float32)
        weights[3 - ndim :] = [finest / size for size in sizes]
        largest = float(np.finfo(np.float32).max)
        units = [
            min(unit / finest ** ORDERS.get(kind, 0), largest)
            for kind, _, columns in groups
            for _ in range(columns)
        ]
        units = np.array(units, np.float32)
        wanted = sorted(self._wanted(groups, units), key=lambda part: part.scale)
        current = None
        for part, larger in zip(wanted, [*wanted[1:], None], strict=True):
            kinds = {kind for kind, *_ in part.groups}
            if larger and any(kind == "difference" for kind, *_ in larger.groups):
                kinds.add("gaussian")  # that is what it differs from
            if not kinds:
                continue
            sigmas = [part.scale / size for size in (*sizes[: 3 - ndim], *sizes)]
            current = Scale(planes, kinds, texture, ndim, sigmas, weights, current)

            def describe(a, b, current=current, part=part):
                columns = np.empty((sum(n for *_, n in part.groups), b - a, width), np.float32)
                k = 0
                for kind, channel, n in part.groups:
                    plane = texture.start if channel is None else channel
                    getattr(current, kind)(plane, rows[a:b], columns[k : k + n])
                    k += n
                if len(part.columns) < k:
                    columns = columns[part.columns]
                interleave(columns, part.units, begin, out_rows[a:b], part.first)

            map_strips(describe, len(rows), max(1, STRIP // width))
        n_columns = sum(len(part.columns) for part in wanted)
        if units.max() > 1e36:  # a feature may leave float32's range; it stays finite, ordered
            np.clip(out[..., :n_columns], -largest, largest, out=out[..., :n_columns])
        return n_columns, len(units) * len(self.scales)

    def _wanted(self, groups, units):
        """What is wanted at each scale."""
        parts, place, first = [], 0, 0
        for scale in self.scales:
            needed, columns, places, k, i = [], [], [], 0, 0
            for group in groups:
                n = group[-1]
                own = [c for c in range(n) if self.chosen is None or place + i + c in self.chosen]
                if own:
                    needed.append(group)
                    columns += [k + c for c in own]
                    places += [i + c for c in own]
                    k += n
                i += n
            parts.append(_AtScale(scale, needed, columns, units[places], first))
            first += len(columns)
            place += i
        return parts

    def _planes(self, image, groups, unit):
        """The channels and their mean, as far as needed, and which of them texture is of."""
        n_channels = image.shape[-1]
        with_mean = n_channels > 1 and any(channel is None for _, channel, _ in groups)
        with_channels = n_channels == 1 or any(channel is not None for _, channel, _ in groups)
        n = n_channels * with_channels + with_mean
        shape = (n, *(1,) * (4 - image.ndim), *image.shape[:-1])
        planes = np.empty(shape, np.float32)
        pixels, flat = np.ascontiguousarray(image).reshape(-1, n_channels), planes.reshape(n, -1)
        map_strips(lambda a, b: split(pixels[a:b], unit, flat[:, a:b]), len(pixels))
        return planes, slice(n - 1, n) if with_mean else slice(0, n)

    def _extra(self, image, region):
        """What `extra` gives for a region, checked."""
        if self.extra is None:
            return None
        halo = getattr(self.extra, "halo", None)
        shape = image.shape[:-1]
        window = _grown(region, shape if halo is None else (halo,) * len(shape), shape)
        part = np.array(image[window], np.float32, order="C")  # its own: it may be written to
        values = np.asarray(self.extra(part))
        if values.ndim != part.ndim or values.shape[:-1] != part.shape[:-1] or not values.size:
            raise ValueError(
                f"{self.caller}: extra gave an array of shape {values.shape} for an image of "
                f"{part.shape}, expected {(*part.shape[:-1], 'm')}: m numbers for each pixel."
            )
        if values.dtype.kind not in "buif":
            raise TypeError(f"{self.caller}: extra gave {values.dtype}, expected real numbers.")
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.caller}: extra gave values that are NaN, infinite or beyond float32, "
                "expected finite ones: replace them, for instance with numpy.nan_to_num."
            )
        return values[
            tuple(slice(r.start - w.start, r.stop - w.start) for r, w in zip(region, window))
        ]


def peak_of(image: NDArray) -> float:
    """Find the largest absolute value of an image.

    Parameters
    ----------
    image : ndarray

    Returns
    -------
    float
    """
    return max(abs(float(image.max())), abs(float(image.min())))


def _grown(region, margins, shape):
    """A region and what is around it, as far as the image goes."""
    return tuple(
        slice(max(0, part.start - margin), min(n, part.stop + margin))
        for part, margin, n in zip(region, margins, shape, strict=True)
    )


def _within(region, window):
    """The place of a region in a window around it."""
    return tuple(
        slice(part.start - around.start, part.stop - around.start)
        for part, around in zip(region, window, strict=True)
    )


def _check_numbers(caller, name, values, meaning):
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) == 0:
        raise ValueError(f"{caller}: {name} is {values!r}, expected a sequence: {meaning}.")
    return tuple(
        check_real(caller, f"{name}[{i}]", value, above=0) for i, value in enumerate(values)
    )


def _check_features(caller, features, extra):
    known = ", ".join(map(repr, KINDS))
    if isinstance(features, str) or not hasattr(features, "__len__"):
        raise ValueError(
            f"{caller}: features is {features!r}, expected a sequence of kinds out of {known}."
        )
    for i, kind in enumerate(features):
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"{caller}: features[{i}] is {kind!r}, expected one of {known}.")
        if kind in features[:i]:
            raise ValueError(f"{caller}: features[{i}] is {kind!r} again: name each kind once.")
    if len(features) == 0 and extra is None:
        raise ValueError(f"{caller}: features is empty, expected some of {known}, or extra.")
    return tuple(features)


def pixel_features(
    image: ArrayLike,
    scales: Sequence[float] = (1, 2, 4, 8),
    *,
    features: Sequence[str] | None = None,
    per_channel: bool = False,
    spacing: Sequence[float] | None = None,
    extra: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.float32]:
    """Describe every pixel by filters of its surroundings, at several scales.

    Parameters
    ----------
    image : array_like, (H, W), (H, W, C) or (D, H, W)
        Any real dtype; intensities keep their range.
    scales : sequence of float, default=(1, 2, 4, 8)
        Standard deviations of the Gaussians: in pixels, or in the unit of `spacing`.
    features : sequence of str, optional
        Kinds, in the order that they are wanted; see Notes. By default gaussian, gradient,
        laplacian, deviation, structure, hessian and, where there are three channels, lab.
    per_channel : bool, default=False
        Whether kinds of texture are taken of each channel instead of the channels' mean.
    spacing : sequence of float, optional
        Size of a pixel along each spatial axis, where that differs or derivatives are
        wanted per unit of length. 1 without it.
    extra : callable, optional
        More features of the caller's own, ``extra(image) -> (H, W, m)`` for an image
        (H, W, C) float32 of which it may be given parts, on threads. Its attribute ``halo``,
        if it has one, says how many pixels around a pixel it looks at.
    channel_axis : int, None or "auto", default="auto"
        None for a volume (D, H, W), -1 for many channels.

    Returns
    -------
    (H, W, F) or (D, H, W, F) float32
        For each scale all kinds in their order, then ``lab`` and ``position``, then `extra`.
        `segalgos.pixels.features.feature_names` names them.

    Raises
    ------
    ValueError, TypeError
        If the image or a choice is not as expected, or `extra` gives another shape or values
        that are not finite.

    Notes
    -----
    G is a channel, or the channels' mean, smoothed by a Gaussian (radius: four standard
    deviations; beyond the border the outermost values go on), s the scale in pixels. All
    kinds at scales are in the image's unit (per length of `spacing`, where derivatives are
    taken). Of each channel:

    - ``gaussian``: G.
    - ``gradient``: root mean square over the axes of Sobel's differences: those of the next
      pixels on either side, smoothed by 1 2 1 / 4 along the other axes [1]_.
    - ``mean``: of the pixels in the box that reaches s (rounded, at least 1) each way.

    Texture, of the channels' mean or with `per_channel` of each channel:

    - ``laplacian``: trace of the Hessian.
    - ``hessian``: eigenvalues of the second derivatives of G, the largest first.
    - ``structure``: square roots of the eigenvalues of the structure tensor [2]_, the products
      of first derivatives of G smoothed by the same Gaussian again, the largest first.
    - ``difference``: G less G at the next smaller scale; at the smallest, less the image.
    - ``deviation``: standard deviation of the pixels in the box of ``mean``.
    - ``median``: median of G at the 3 x 3 (x 3) points that are s apart.

    Derivatives are those of `numpy.gradient`: half the difference of the neighbours, at the
    border the difference to the only one. Of the pixel itself, at no scale:

    - ``lab``: CIE Lab of sRGB with 3 channels; white is the smallest of 1, 255 and 65535 that
      no absolute value exceeds, negative values are black.
    - ``position``: centre of the pixel along each axis, from 0 to 1 across the image.

    ``scales=[0.5, 1, 2, 4, 8, 16], features=("gaussian", "gradient", "hessian"),
    per_channel=True`` gives what `skimage.feature.multiscale_basic_features` gives by
    default, in another order and, where that rescales integers to 0..1, times the dtype's
    largest value.

    O(pixels * C * sum(scales)) time. Beyond the output, memory holds a few float32 planes
    for each channel at one scale. Results do not depend on the number of threads, nor on the
    tiles that a segmenter cuts.

    References
    ----------
    .. [1] I. Sobel and G. Feldman, "A 3 x 3 isotropic gradient operator for image
       processing", Stanford Artificial Intelligence Project, 1968.
    .. [2] W. Foerstner and E. Guelch, "A fast operator for detection and precise location of
       distinct points, corners and centres of circular features", ISPRS Intercommission
       Workshop, 1987.
    .. [3] S. Berg et al., "ilastik: interactive machine learning for (bio)image
       analysis", Nature Methods 16, 2019.
    """
    image = check_image(image, "pixel_features", channel_axis=channel_axis, ndims=(2, 3))
    choice = PixelFeatures.checked("pixel_features", scales, features, per_channel, spacing, extra)
    return choice.compute(image)
