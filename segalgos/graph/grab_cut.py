"""GrabCut: cut an object out of a box, learning its colours and those around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.checks import (
    check_image,
    check_int,
    check_label_map,
    check_mask,
    check_prompts,
    check_real,
)
from segalgos.distinct import group_rows
from segalgos.graph.color_models import learn_mixture, split_colors, standardise
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.max_flow import POTTS, GridFlow, check_energy, energy_of, half_neighborhood
from segalgos.results import Prompts

__all__ = ["grab_cut"]

UNKNOWN = -1

# Where more than so many pixels are unknown for each pixel of a coarser grid, that is cut first.
COARSEST = 20_000
COARSE_ITERATIONS = 4  # times the cuts of the finest grid: they cost little there, and gain most


def choose_neighbors(caller: str, neighbors: int | None, ndim: int) -> int:
    """Check a neighbourhood against the axes of an image; None becomes the largest one.

    Parameters
    ----------
    caller : str
        For the message.
    neighbors : {8, 4, 6} or None
    ndim : {2, 3}

    Returns
    -------
    int
    """
    choices = {2: (8, 4), 3: (6,)}[ndim]
    if neighbors is None:
        return choices[0]
    if neighbors not in choices:
        raise ValueError(
            f"{caller}: neighbors is {neighbors} for {ndim} spatial axes, expected 8 or 4 for "
            "images, 6 for volumes, or None for the largest."
        )
    return int(neighbors)


def frame_of(known: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Find the smallest box around all unknown pixels and their neighbours.

    Parameters
    ----------
    known : (H, W) or (D, H, W) bool
        Not True everywhere.

    Returns
    -------
    tuple of slice
    """
    box = []
    for axis in range(known.ndim):
        others = tuple(a for a in range(known.ndim) if a != axis)
        places = np.flatnonzero(~known.all(axis=others))
        box.append(slice(max(0, places[0] - 1), places[-1] + 2))
    return tuple(box)


def first_guess(
    known: NDArray[np.int32], guess: NDArray[np.bool_] | None, inside: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Label all pixels, so that there are colours of both labels to learn from.

    Parameters
    ----------
    known : (H, W) or (D, H, W) int32
        1 where object is sure, 0 where background is, -1 elsewhere.
    guess : of the same shape, bool, or None
        True where the object probably is.
    inside : of the same shape, bool
        Pixels that count.

    Returns
    -------
    of the same shape, int32
        `known`, and where that is -1: the guess, or else what is not known yet. If nothing
        is background then, the outermost tenth is.
    """
    if guess is None:
        guess = np.full(known.shape, (known == 0).any() or not (known == 1).any())
    labels = np.where(known == UNKNOWN, guess, known).astype(np.int32)
    if not (labels[inside] == 0).any():
        width = max(1, min(inside.shape) // 10)
        inner = ndimage.minimum_filter(inside.view(np.uint8), 2 * width + 1, mode="constant") > 0
        if inner.any():
            labels[~inner & (known == UNKNOWN)] = 0
    return labels


def iterate_cuts(
    image: NDArray,
    known: NDArray[np.int32],
    guess: NDArray[np.bool_] | None,
    mask: NDArray[np.bool_] | None,
    *,
    n_components: int,
    n_iter: int,
    smoothness: float,
    neighbors: int,
) -> tuple[NDArray[np.int32], list[float]]:
    """Learn colours and cut in turn, on checked input; see `grab_cut`.

    Parameters
    ----------
    image : (H, W, C) or (D, H, W, C) uint8 or float32
    known : (H, W) or (D, H, W) int32
        1 where object is sure, 0 where background is, -1 elsewhere.
    guess : of the same shape, bool, or None
        True where the object probably is.
    mask : of the same shape, bool, or None
    n_components, n_iter, smoothness, neighbors
        As in `grab_cut`.

    Returns
    -------
    labels : of the same shape, int32
        1 and 0; -1 outside the mask.
    energies : list of float
        After each cut: the costs of all pixels and the weights of the edges cut, but for
        edges between pixels that were known before.
    """
    shape = image.shape[:-1]
    inside = np.ones(shape, bool) if mask is None else mask
    labels = first_guess(known, guess, inside)
    labels[~inside] = UNKNOWN
    fixed = (known != UNKNOWN) | ~inside
    if fixed.all():
        return labels, []
    groups = group_rows(image.reshape(-1, image.shape[-1]), None if mask is None else mask.ravel())
    counts, index = groups.counts, groups.inverse().reshape(shape)
    colors = standardise(groups.values, counts)

    # Only this part of the image is cut: all beyond is known.
    frame = frame_of(fixed)
    part, inside = labels[frame], inside[frame]
    n_colors = len(colors)
    beyond = np.empty((2, n_colors))  # pixels of background and object there, by colour
    beyond[1] = np.bincount(index[labels == 1], minlength=n_colors)
    beyond[0] = counts - beyond[1]
    index = index[frame]
    for label in (0, 1):
        beyond[label] -= np.bincount(index[part == label], minlength=n_colors)

    offsets = half_neighborhood(len(shape), neighbors)
    beta = contrast_beta(image, offsets, mask)
    planes = contrast_weights(np.ascontiguousarray(image[frame]), offsets, beta, smoothness)
    forbidden = np.stack([known[frame] == 1, known[frame] == 0], axis=-1)
    costs, components = np.empty((n_colors, 2), np.float32), [None, None]
    energies, flow = [], None
    for _ in range(n_iter):
        n_object = np.bincount(index[part == 1], minlength=n_colors)
        weights = beyond[1] + n_object
        weights = (counts - weights, weights)
        if not (weights[0].any() and weights[1].any()):
            break  # a label that has lost all its pixels does not come back
        for label, weight in enumerate(weights):
            if components[label] is None:
                start = learn_mixture(colors, weight, split_colors(colors, weight, n_components))
                components[label] = start.explain(colors)[1]
            mixture = learn_mixture(colors, weight, components[label])
            costs[:, label], components[label] = mixture.explain(colors)
        before = part
        unary = np.where(forbidden, np.float32(np.inf), costs[index])
        unary, edges, steps, within, _ = check_energy(
            unary, planes, neighbors, inside, 2, "grab_cut"
        )
        if flow is None:
            flow = GridFlow.of_energy(unary, edges, steps, within, "grab_cut")
        else:  # the flow of the last cut is nearly that of the next
            flow.change_unary(unary, within)
        rare = int(2 * np.count_nonzero(part == 1) < np.count_nonzero(inside))
        chosen = np.where(within, flow.cut(rare), np.int32(-1))
        part = chosen.reshape(before.shape)
        energy = energy_of(chosen, unary, edges, steps, POTTS)
        energies.append(energy + float(np.sum(beyond * costs.T, dtype=np.float64)))
        if (part == before).all():
            break
    labels[frame] = part
    return labels, energies


def cut_coarse_to_fine(
    image: NDArray,
    known: NDArray[np.int32],
    guess: NDArray[np.bool_] | None,
    mask: NDArray[np.bool_] | None,
    *,
    smoothness: float,
    n_iter: int,
    **options: int,
) -> NDArray[np.int32]:
    """Run `iterate_cuts` on every other pixel first, and start from what that gives.

    Parameters
    ----------
    image, known, guess, mask, smoothness, n_iter, **options
        As in `iterate_cuts`.

    Returns
    -------
    of the shape of `known`, int32
        1 and 0; -1 outside the mask.

    Notes
    -----
    A first cut, with colours learned from the whole box, is the slowest and the least
    useful: this makes it the smallest too.
    """
    levels = [(image, known, guess, mask)]
    every_other = (slice(None, None, 2),) * known.ndim
    while np.count_nonzero(levels[-1][1] == UNKNOWN) > COARSEST << known.ndim:
        levels.append(
            tuple(
                None if array is None else np.ascontiguousarray(array[every_other])
                for array in levels[-1]
            )
        )
    found = None
    for level in range(len(levels) - 1, -1, -1):
        image, known, guess, mask = levels[level]
        if found is not None and (found == 1).any():
            guess = found == 1
            for axis in range(known.ndim):
                guess = np.repeat(guess, 2, axis)
            guess = guess[tuple(map(slice, known.shape))]
        # Half as many edges lie along a boundary for each pixel of the object.
        found, _ = iterate_cuts(
            image,
            known,
            guess,
            mask,
            smoothness=smoothness / 2**level,
            n_iter=n_iter if level == 0 else COARSE_ITERATIONS * n_iter,
            **options,
        )
    return found


def check_parameters(
    caller: str, n_components: int, n_iter: int, smoothness: float, neighbors: int | None
) -> None:
    """Check what `grab_cut` and `GraphCutSegmenter` share.

    Parameters
    ----------
    caller : str
        For the message.
    n_components, n_iter, smoothness, neighbors
        As in `grab_cut`.
    """
    check_int(caller, "n_components", n_components, low=1, high=100)
    check_int(caller, "n_iter", n_iter, low=1)
    check_real(caller, "smoothness", smoothness, low=0)
    if neighbors is not None and check_int(caller, "neighbors", neighbors) not in (4, 6, 8):
        raise ValueError(
            f"{caller}: neighbors is {neighbors}, expected 8 or 4 for images, 6 for volumes, or "
            "None for the largest."
        )


def grab_cut(
    image: ArrayLike,
    box: ArrayLike | None = None,
    *,
    seeds: ArrayLike | None = None,
    guess: ArrayLike | None = None,
    n_components: int = 5,
    n_iter: int = 5,
    smoothness: float = 50.0,
    neighbors: int | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Cut an object out of its background, given a box around it [1]_.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    box : (4,), (6,) or several of these, array_like, optional
        Half-open: row0, col0, row1, col1; in volumes the slices come first. What lies
        outside all boxes is background for certain.
    seeds : array_like of int, optional
        1 where object and 0 where background is certain, -1 elsewhere. It overrules boxes.
    guess : array_like of bool, optional
        True where the object probably is; where nothing is certain it is where to start.
    n_components : int, default=5
        Gaussians that model the colours of the object, and as many for the background.
    n_iter : int, default=5
        Cuts at most, four times as many of each coarser resolution; it ends before if a cut
        changes nothing.
    smoothness : float, default=50.0
        The paper's gamma: what it costs to part two neighbours of equal colour, in units
        of the negative logarithm of a colour's probability.
    neighbors : {8, 4, 6}, optional
        Of each pixel: 8 or 4 in images, 6 in volumes; the largest of these if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        1 the object, 0 the background; -1 outside the mask.

    Raises
    ------
    ValueError
        If there is neither a box nor a seed nor a guess.

    See Also
    --------
    segalgos.graph_cut : Cut once, with colours learned from the seeds alone; any number of
        labels.

    Notes
    -----
    It starts with the guess, or else the whole box, as object. If nothing can be
    background then, the outermost tenth of the image is a first guess of it. Each iteration gives
    every pixel to the likeliest Gaussian of its label, learns these anew and finds the
    labels of least energy by a minimum cut. No step raises the energy [1]_. Large images
    are cut at every other pixel first, with half the smoothness, which saves most of the
    time and mostly ends at a lower energy.

    Colours are scaled to variance 1 and contrast is measured by that of the image itself,
    so a result does not depend on the range of values. Models are learned and evaluated on
    distinct colours, and only the surroundings of unknown pixels are cut:
    O(n_distinct * n_components * C**2) time and one cut an iteration. Nothing is random: mixtures
    start from colours split along their principal axes, and each colour stands for a small
    Gaussian, so that no covariance is singular. Where the mask cuts the image into pieces,
    they share the colour models, so each may hold parts of the object.

    References
    ----------
    .. [1] C. Rother, V. Kolmogorov and A. Blake, "GrabCut: interactive foreground
       extraction using iterated graph cuts", ACM Transactions on Graphics 23(3), 309-314,
       2004.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.graph.grab_cut import grab_cut
    >>> image = np.zeros((8, 9))
    >>> image[3:6, 3:7] = 1
    >>> grab_cut(image, [1, 1, 7, 8])[4]
    array([0, 0, 0, 1, 1, 1, 1, 0, 0], dtype=int32)
    """
    caller = "grab_cut"
    check_parameters(caller, n_components, n_iter, smoothness, neighbors)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    neighbors = choose_neighbors(caller, neighbors, len(shape))
    if mask is not None:
        mask = check_mask(mask, shape, caller)
    if guess is not None:
        guess = check_mask(guess, shape, caller, "guess")
    known = np.full(shape, UNKNOWN, np.int32)
    if box is not None:
        prompts = check_prompts(Prompts(boxes=box), shape, caller, "box")
        known = prompts.seeds(shape)
    if seeds is not None:
        seeds = check_label_map(seeds, shape, caller, "seeds")
        if seeds.max() > 1:
            raise ValueError(
                f"{caller}: seeds holds ids up to {seeds.max()}, expected 1 (object), 0 "
                "(background) and -1: use graph_cut for more labels."
            )
        np.copyto(known, seeds, where=seeds >= 0)
    if guess is None and box is None and (known == UNKNOWN).all():
        raise ValueError(f"{caller}: nothing is known of the object: pass a box, seeds or a guess.")
    return cut_coarse_to_fine(
        image,
        known,
        guess,
        mask,
        n_components=n_components,
        n_iter=n_iter,
        smoothness=smoothness,
        neighbors=neighbors,
    )
