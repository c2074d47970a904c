"""A last layer made of prototypes: few-shot learning without training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from segalgos.adaptation.fine_tune import take_weights
from segalgos.adaptation.fitted import (
    call_with_features,
    check_fitted_net,
    copy_of,
    find_head,
)
from segalgos.checks import check_label_map, is_batch
from segalgos.nets.prediction import THREADS_OF_A_LONE_TILE, to_tensor
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.torch_threads import threads_per_operation
from segalgos.training.augment import mirrored_window

__all__ = ["prototype_head"]


def prototype_head(
    segmenter: SemanticNetSegmenter,
    images: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike | Sequence[ArrayLike],
) -> SemanticNetSegmenter:
    """Give a fitted net new classes, by the mean features of a handful of labelled pixels [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted; its network ends in a convolution of 1 x 1, as those of all nets here but
        `FCNSegmenter`. It is not changed.
    images : array_like or sequence of array_like
        One image or a few.
    labels : array_like of int or sequence of these
        Their label maps, -1 where unlabelled: a few strokes or clicks are enough.

    Returns
    -------
    SemanticNetSegmenter
        A new one with the classes of the labels. A pixel is of the class whose prototype is
        nearest to its features.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the segmenter was not fitted.
    TypeError, ValueError
        If it is no semantic net, its network ends otherwise, or there are no labelled pixels.

    See Also
    --------
    segalgos.fine_tune : Trains all layers, and needs more labels.

    Notes
    -----
    With prototypes p_k and features f the squared distance ``|f - p_k|^2`` is, but for what is
    the same for all classes, ``-2 p_k f + |p_k|^2``: a layer of weights p_k and biases
    ``-|p_k|^2 / 2``, as in [2]_. Divided by the variance of features about their prototypes,
    averaged over features, its scores are those of Gaussians: probabilities are then neither
    too sure nor too unsure, as far as these fit.

    Images are seen whole; features are interpolated to labelled pixels by the nearest.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot learning",
       NeurIPS 2017, arXiv:1703.05175.
    .. [2] H. Qi, M. Brown and D. G. Lowe, "Low-shot learning with imprinted weights",
       CVPR 2018, arXiv:1712.07136.

    Examples
    --------
    >>> import numpy as np
    >>> import segalgos
    >>> from segalgos import datasets
    >>> shapes = datasets.load("shapes", n_images=2, size=(48, 64))
    >>> net = segalgos.UNetSegmenter.small().fit(list(shapes.images), list(shapes.labels))
    >>> clicks = np.full((48, 64), -1)
    >>> clicks[:2, :4], clicks[-2:, -4:] = 3, 7
    >>> segalgos.prototype_head(net, shapes[0].image, clicks).classes_.tolist()
    [3, 7]
    """
    caller = "prototype_head"
    check_fitted_net(segmenter, caller)
    head = find_head(segmenter, caller)
    layer = segmenter.network_.get_submodule(head)
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.groups != 1:
        raise ValueError(
            f"{caller}: the {type(segmenter.network_).__name__} ends in a {type(layer).__name__}"
            f"{tuple(getattr(layer, 'kernel_size', ()))}, expected a convolution of 1 x 1: take "
            "another net, or segalgos.fine_tune."
        )
    if not is_batch(images, caller):
        images, labels = [images], [labels]
    if len(images) != len(labels):
        raise ValueError(f"{caller}: {len(images)} images but {len(labels)} labels: pass pairs.")
    rows, classes = [], []
    for i in range(len(images)):
        image = segmenter._clean(images[i], f"images[{i}]")
        if image.shape[-1] != segmenter.n_channels_:
            raise ValueError(
                f"{caller}: images[{i}] has {image.shape[-1]} channels, the segmenter was fitted "
                f"with {segmenter.n_channels_}: convert it."
            )
        label_map = check_label_map(labels[i], image.shape[:2], caller, f"labels[{i}]")
        if (label_map >= 0).any():
            rows.append(_features(segmenter, image, label_map >= 0, head))
            classes.append(label_map[label_map >= 0])
    if not rows:
        raise ValueError(f"{caller}: labels hold no labelled pixel (all are -1): label some.")
    weight, bias, ids = _linear_layer(torch.cat(rows), np.concatenate(classes))

    new = copy_of(segmenter)
    new.classes_ = ids
    network = new._new_network(segmenter.n_channels_, len(ids), seed=0).to(weight.device)
    take_weights(network, ids, segmenter)
    layer = nn.Conv2d(weight.shape[1], len(ids), kernel_size=1, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(bias)
        if network.get_submodule(head).bias is None:
            raise ValueError(f"{caller}: the last layer has no bias: use segalgos.fine_tune.")
    network.get_submodule(head).load_state_dict(layer.state_dict())
    new.network_ = network.eval()
    new.fast_network_ = new._make_fast(network)
    new.n_parameters_ = sum(p.numel() for p in network.parameters())
    new.history_ = []
    return new


def _features(
    segmenter: SemanticNetSegmenter, image: NDArray, wanted: NDArray[np.bool_], head: str
) -> Tensor:
    """Features (n, d) that the last layer sees at the wanted pixels of an image."""
    network, margin = segmenter.network_, segmenter.network_.margin
    height, width = (network.fit_size(n) for n in image.shape[:2])
    window = mirrored_window(image, -margin, -margin, height + 2 * margin, width + 2 * margin)
    x = to_tensor(segmenter._standardiser(image)(window)[None])
    x = x.to(next(network.parameters()).device)
    with torch.no_grad(), threads_per_operation(THREADS_OF_A_LONE_TILE):
        _, features = call_with_features(network, head, lambda: network(x))
        features = F.interpolate(features.float(), (height, width), mode="nearest-exact")
    rows, columns = (torch.from_numpy(places) for places in np.nonzero(wanted))
    return features[0][:, rows, columns].T


def _linear_layer(
    rows: Tensor, classes: NDArray[np.int32]
) -> tuple[Tensor, Tensor, NDArray[np.int32]]:
    """Weights (K, d) and biases (K,) whose scores are those of the nearest prototype; ids (K,)."""
    ids, places = np.unique(classes, return_inverse=True)
    where = torch.from_numpy(places.ravel()).to(rows.device)
    totals = rows.new_zeros(len(ids), rows.shape[1]).index_add_(0, where, rows)
    prototypes = totals / torch.bincount(where)[:, None]
    variance = (rows - prototypes[where]).square().mean().clamp(min=1e-6)
    weight = prototypes / variance
    return weight, -(prototypes.square().sum(1)) / (2 * variance), ids.astype(np.int32)
