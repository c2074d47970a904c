"""Boykov and Jolly's interactive graph cuts, for two labels or many."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segalgos.base import Segmenter, Traits
from segalgos.checks import check_image, check_label_map, check_mask, check_real
from segalgos.distinct import group_rows
from segalgos.graph.alpha_expansion import alpha_expansion
from segalgos.graph.color_models import learn_mixture, split_colors, standardise
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.grab_cut import UNKNOWN, check_parameters, choose_neighbors, cut_coarse_to_fine
from segalgos.graph.max_flow import grid_cut, half_neighborhood

__all__ = ["GraphCutSegmenter", "graph_cut"]

# Seeds are few: each Gaussian gets so many more pixels of this variance, where a channel of
# the image has variance 1, and this part of a label's pixels may have any colour of the image.
PRIOR_WEIGHT = 20.0
PRIOR_VARIANCE = 0.05
ANY_COLOR = 0.1
SEEDS_PER_COMPONENT = 10


def _learn_costs(colors, counts, weights, n_components):
    """Costs (n_colors, n_labels) of colours, learned from seeds (n_labels, n_colors)."""
    everywhere = learn_mixture(colors, counts, np.zeros(len(colors), np.int32))
    any_color = everywhere.explain(colors)[0] - np.float32(np.log(ANY_COLOR))
    costs = np.empty((len(colors), len(weights)), np.float32)
    for label, weight in enumerate(weights):
        occurs = weight > 0
        seeds, weight = colors[occurs], weight[occurs]
        most = max(1, int(weight.sum()) // SEEDS_PER_COMPONENT)
        mixture = learn_mixture(
            seeds,
            weight,
            split_colors(seeds, weight, min(n_components, most)),
            prior_weight=PRIOR_WEIGHT,
            prior_variance=PRIOR_VARIANCE,
        )
        costs[:, label] = np.minimum(mixture.explain(colors)[0], any_color)
    return costs


def _unseeded_pieces(known, inside, neighbors):
    """Pixels of those pieces of the mask that no seed lies in."""
    axes = known.ndim
    structure = ndimage.generate_binary_structure(axes, axes if neighbors == 8 else 1)
    pieces, _ = ndimage.label(inside, structure)
    return inside & ~np.isin(pieces, np.unique(pieces[known != UNKNOWN]))


def _cut_seeds(image, known, mask, *, smoothness, region_weight, n_components, neighbors):
    """Label a checked image from its seeds, all within the mask; see `graph_cut`."""
    shape = image.shape[:-1]
    inside = np.ones(shape, bool) if mask is None else mask
    ids = np.unique(known[known != UNKNOWN])
    if not (inside & (known == UNKNOWN)).any():
        return known
    if len(ids) == 1:  # its opposite is learned from all other pixels
        ids = np.sort([ids[0], 0 if ids[0] else 1])

    offsets = half_neighborhood(len(shape), neighbors)
    planes = contrast_weights(image, offsets, contrast_beta(image, offsets, mask), smoothness)
    unary = np.zeros((*shape, len(ids)), np.float32)
    if region_weight > 0:
        groups = group_rows(
            image.reshape(-1, image.shape[-1]), None if mask is None else mask.ravel()
        )
        colors, index = standardise(groups.values, groups.counts), groups.inverse().reshape(shape)
        of_label = [known == label for label in ids]
        weights = [np.bincount(index[of], minlength=len(colors)).astype(float) for of in of_label]
        weights = [w if w.any() else groups.counts - sum(weights) for w in weights]
        costs = _learn_costs(colors, groups.counts, weights, n_components)
        unary = (np.float32(region_weight) * costs)[index]
    seeded = known != UNKNOWN
    unary[seeded] = np.where(known[seeded][:, None] == ids, np.float32(0), np.float32(np.inf))
    if len(ids) == 2:
        chosen, _ = grid_cut(unary, planes, neighbors=neighbors, mask=inside)
    else:
        chosen, _ = alpha_expansion(unary, planes, neighbors=neighbors, mask=inside)
    labels = np.where(inside, ids[chosen], UNKNOWN).astype(np.int32)
    if region_weight == 0:
        labels[_unseeded_pieces(known, inside, neighbors)] = UNKNOWN
    return labels


def graph_cut(
    image: ArrayLike,
    seeds: ArrayLike,
    *,
    smoothness: float = 50.0,
    region_weight: float = 0.3,
    n_components: int = 5,
    neighbors: int | None = None,
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
) -> NDArray[np.int32]:
    """Label an image from a few labelled pixels, by minimum cuts [1]_.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    seeds : array_like of int
        Of the image's shape: ids of at least 0 where the label is certain, -1 elsewhere.
        If there is only one id, the other label is 0, or 1 if the seeds are 0; its colours
        are learned from all pixels without seed.
    smoothness : float, default=50.0
        What it costs to part two neighbours of equal colour.
    region_weight : float, default=0.3
        Weight of a pixel's colour: the paper's lambda, times the negative logarithm of the
        colour's probability. With 0, contrast alone decides.
    n_components : int, default=5
        Gaussians at most that model the colours of each label's seeds.
    neighbors : {8, 4, 6}, optional
        Of each pixel: 8 or 4 in images, 6 in volumes; the largest of these if None.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids of the seeds; -1 outside the mask. With `region_weight` 0, pieces of the mask
        without seeds get -1 too: nothing is known of them. Else their colours decide.

    Raises
    ------
    ValueError
        If no pixel within the mask is a seed.

    See Also
    --------
    segalgos.grab_cut : Cut an object out of a box, learning its colours again and again.

    Notes
    -----
    The cost of parting two neighbours is ``smoothness * exp(-beta * difference**2) /
    distance``, where beta is half the inverse mean squared difference of neighbours in this
    image [2]_; colours are scaled to variance 1. So a result does not depend on the range
    of values. The seeds' colours are modelled by Gaussians, which seeds of few pixels make
    broader, and any colour of the image is possible for each label with a small
    probability.

    Two labels are cut exactly; more by alpha-expansion [3]_, which ends at an energy
    within twice the least. Time: a cut of all pixels, for more than two labels one a label
    and round, and O(n_distinct * n_labels * n_components * C**2) for the costs.

    References
    ----------
    .. [1] Y. Boykov and M.-P. Jolly, "Interactive graph cuts for optimal boundary and
       region segmentation of objects in N-D images", ICCV 2001, vol. 1, 105-112.
    .. [2] C. Rother, V. Kolmogorov and A. Blake, "GrabCut: interactive foreground
       extraction using iterated graph cuts", ACM Transactions on Graphics 23(3), 309-314,
       2004.
    .. [3] Y. Boykov, O. Veksler and R. Zabih, "Fast approximate energy minimization via
       graph cuts", IEEE Transactions on Pattern Analysis and Machine Intelligence 23(11),
       1222-1239, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos.graph.graph_cut import graph_cut
    >>> image = np.array([[10, 11, 10, 90, 91, 90]] * 3)
    >>> seeds = np.full((3, 6), -1)
    >>> seeds[1, 0], seeds[1, 5] = 4, 7
    >>> graph_cut(image, seeds)[0]
    array([4, 4, 4, 7, 7, 7], dtype=int32)
    """
    caller = "graph_cut"
    _check_parameters(caller, smoothness, region_weight, n_components, neighbors)
    image = check_image(image, caller, channel_axis=channel_axis, ndims=(2, 3), keep_uint8=True)
    shape = image.shape[:-1]
    known = check_label_map(seeds, shape, caller, "seeds")
    if mask is not None:
        mask = check_mask(mask, shape, caller)
        known = np.where(mask, known, UNKNOWN)
    if (known == UNKNOWN).all():
        raise ValueError(f"{caller}: no pixel of the mask is a seed: mark some of each label.")
    return _cut_seeds(
        image,
        known,
        mask,
        smoothness=smoothness,
        region_weight=region_weight,
        n_components=n_components,
        neighbors=choose_neighbors(caller, neighbors, len(shape)),
    )


def _check_parameters(caller, smoothness, region_weight, n_components, neighbors, n_iter=1):
    check_parameters(caller, n_components, n_iter, smoothness, neighbors)
    check_real(caller, "region_weight", region_weight, low=0)


class GraphCutSegmenter(Segmenter):
    """Interactive graph cuts [1]_, and GrabCut [2]_ where a box or a rough mask is given.

    Parameters
    ----------
    smoothness : float, default=50.0
        What it costs to part two neighbours of equal colour.
    region_weight : float, default=0.3
        Weight of a pixel's colour where points and scribbles alone are given; with 0,
        contrast alone decides. GrabCut's is 1.
    n_components : int, default=5
        Gaussians at most that model the colours of each label.
    n_iter : int, default=5
        Cuts of GrabCut at most.
    neighbors : {8, 4, 6}, optional
        Of each pixel: 8 or 4 in images, 6 in volumes; the largest of these if None.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.

    See Also
    --------
    segalgos.graph_cut, segalgos.grab_cut : The same as functions, with the details.

    Notes
    -----
    Prompts mean:

    - points: certain pixels of the object (1) or the background (0);
    - scribbles: certain pixels of any number of labels, whose ids the result keeps;
    - boxes: all outside is background (0) for certain, the object is to be found inside;
    - a mask: where the object probably is, for GrabCut to start from.

    All may be combined, but a box or mask leads to GrabCut only where no scribble has
    another id than 0 and 1; a mask with other ids is refused. Where only one label is
    marked, the colours of the other are learned from all pixels that are not. Where all
    marks lie outside the mask, everything within is background.

    References
    ----------
    .. [1] Y. Boykov and M.-P. Jolly, "Interactive graph cuts for optimal boundary and
       region segmentation of objects in N-D images", ICCV 2001, vol. 1, 105-112.
    .. [2] C. Rother, V. Kolmogorov and A. Blake, "GrabCut: interactive foreground
       extraction using iterated graph cuts", ACM Transactions on Graphics 23(3), 309-314,
       2004.
    """

    traits = Traits(
        task="interactive",
        family="graph",
        year=2001,
        takes_prompts=True,
        ndims=(2, 3),
        keeps_uint8=True,
    )

    def __init__(
        self,
        smoothness: float = 50.0,
        *,
        region_weight: float = 0.3,
        n_components: int = 5,
        n_iter: int = 5,
        neighbors: int | None = None,
        channel_axis: int | str | None = "auto",
    ):
        self.smoothness = smoothness
        self.region_weight = region_weight
        self.n_components = n_components
        self.n_iter = n_iter
        self.neighbors = neighbors
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> GraphCutSegmenter:
        """Make an instance with few Gaussians and cuts.

        Returns
        -------
        GraphCutSegmenter
        """
        return cls(n_components=2, n_iter=2)

    def _check_params(self):
        _check_parameters(
            self._caller,
            self.smoothness,
            self.region_weight,
            self.n_components,
            self.neighbors,
            self.n_iter,
        )

    def _predict(self, image, mask, prompts):
        shape = image.shape[:-1]
        known = prompts.seeds(shape)
        options = {
            "smoothness": self.smoothness,
            "n_components": self.n_components,
            "neighbors": choose_neighbors(self._caller, self.neighbors, len(shape)),
        }
        if known.max() <= 1 and (prompts.boxes is not None or prompts.mask is not None):
            return cut_coarse_to_fine(
                image, known, prompts.mask, mask, n_iter=self.n_iter, **options
            )
        if prompts.mask is not None:
            raise ValueError(
                f"{self._caller}: prompts hold a mask and scribbles with ids up to {known.max()}, "
                "but a mask is of one object: leave it out, or draw with 0 and 1 alone."
            )
        known = known if mask is None else np.where(mask, known, UNKNOWN)
        if (known == UNKNOWN).all():
            return np.zeros(shape, np.int32)
        return _cut_seeds(image, known, mask, region_weight=self.region_weight, **options)
