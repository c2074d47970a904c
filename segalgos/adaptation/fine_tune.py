"""Train a fitted net further: on more images, on other ones, for other classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import Tensor, nn

from segalgos import checks
from segalgos.adaptation.fitted import check_fitted_net, weights_digest
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.stages import freeze_stages, layer_rates

__all__ = ["fine_tune", "take_weights"]


def fine_tune(
    segmenter: SemanticNetSegmenter,
    images: ArrayLike | Sequence[ArrayLike],
    labels: ArrayLike | Sequence[ArrayLike],
    *,
    sample_weight: Any = None,
    epochs: int | None = 20,
    time_budget: float | None = None,
    learning_rate: float | None = None,
    frozen_stages: int = 0,
    layer_decay: float = 1.0,
    checkpoint: str | os.PathLike | None = None,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    random_state: Any = None,
    verbose: bool = False,
    **params: Any,
) -> SemanticNetSegmenter:
    """Train a fitted net on labelled images, from the weights that it has [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Any fitted semantic net; it is not changed.
    images : array_like or sequence of array_like
        One image or many; sizes may differ.
    labels : array_like of int or sequence of these
        Label maps (H, W) of class ids, -1 where unlabelled.
    sample_weight : float, array_like or sequence of these, optional
        Weight of each image, or of each pixel (H, W).
    epochs : int or None, default=20
    time_budget : float, optional
    learning_rate : float, optional
        A tenth of the segmenter's, if left out.
    frozen_stages : int, default=0
        So many stages keep what they know, statistics included; see
        `segalgos.nets.stages.stages_of`.
    layer_decay : float, default=1.0
        Each stage learns at this share of the rate of the next: 0.7, say, where images are few.
    checkpoint : path-like, optional
        File that training is saved to after every epoch and resumed from.
    on_epoch_end : callable, optional
        Called with each new row of `history_`.
    random_state : int, RandomState or None, default=None
    verbose : bool, default=False
    **params
        Other parameters of the segmenter: ``augment``, ``batch_size``,
        ``validation_fraction`` ...

    Returns
    -------
    SemanticNetSegmenter
        A new one. Its classes are the old ones if the labels have no others; else those of the
        labels.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the segmenter was not fitted.
    TypeError, ValueError
        If it is no semantic net, or something is not as expected.

    See Also
    --------
    segalgos.prototype_head : Needs no training, for a handful of labelled pixels.
    segalgos.adapt : Needs no labels of the new images.

    Notes
    -----
    With other classes the layers that give a score to each class are made anew; of classes that
    were known before they keep the scores, and all other layers keep their weights.

    Images are standardised as before.

    Same seed and `epochs`, same weights, whatever the number of threads.

    References
    ----------
    .. [1] J. Yosinski, J. Clune, Y. Bengio and H. Lipson, "How transferable are features in deep
       neural networks?", NeurIPS 2014, arXiv:1411.1792.

    Examples
    --------
    >>> import segalgos
    >>> from segalgos import datasets
    >>> shapes = datasets.load("shapes", n_images=2, size=(48, 64))
    >>> images, labels = list(shapes.images), list(shapes.labels)
    >>> net = segalgos.UNetSegmenter.small().fit(images, labels)
    >>> objects = [label_map > 0 for label_map in labels]  # other classes: ground and object
    >>> tuned = segalgos.fine_tune(net, images, objects, epochs=2, random_state=0)
    >>> tuned.classes_.tolist(), len(net.classes_)
    ([0, 1], 6)
    """
    caller = "fine_tune"
    check_fitted_net(segmenter, caller)
    checks.check_int(caller, "frozen_stages", frozen_stages, low=0)
    checks.check_real(caller, "layer_decay", layer_decay, above=0, high=1)
    if learning_rate is None:
        learning_rate = segmenter.learning_rate / 10
    new = clone(segmenter)
    known = new.get_params()
    for name in params:
        if name not in known:
            raise TypeError(
                f"{caller}: {type(segmenter).__name__} has no parameter {name!r}: expected some "
                f"of {', '.join(sorted(known))}."
            )
    new.set_params(
        epochs=epochs,
        time_budget=time_budget,
        learning_rate=learning_rate,
        checkpoint=checkpoint,
        on_epoch_end=on_epoch_end,
        random_state=random_state,
        verbose=verbose,
        **params,
    )
    new._origin = _Trained(segmenter, frozen_stages, layer_decay)
    new.fit(images, labels, sample_weight=sample_weight)
    del new._origin
    new.set_params(checkpoint=None, on_epoch_end=None)
    return new


@dataclass(frozen=True, eq=False)
class _Trained:
    """A fitted segmenter as what another one begins with."""

    segmenter: SemanticNetSegmenter
    frozen_stages: int
    layer_decay: float

    def classes(self, found: NDArray[np.int32]) -> NDArray[np.int32]:
        """Ids of the classes to learn, if those found are in the labels."""
        old = self.segmenter.classes_
        return old if np.isin(found, old).all() else found

    def give(self, segmenter: SemanticNetSegmenter, network: nn.Module) -> None:
        """Hand on weights and how images are standardised."""
        old = self.segmenter
        if old.n_channels_ != len(segmenter.mean_):
            raise ValueError(
                f"fine_tune: images have {len(segmenter.mean_)} channels, the segmenter was fitted "
                f"with {old.n_channels_}: convert them."
            )
        segmenter.mean_, segmenter.std_ = old.mean_.copy(), old.std_.copy()
        take_weights(network, segmenter.classes_, old)
        freeze_stages(network, self.frozen_stages)

    def rates(self, network: nn.Module) -> Mapping[str, float]:
        """Factors on the learning rates, by the names of parameters."""
        return layer_rates(network, self.layer_decay)

    def digest(self) -> bytes:
        """What tells origins apart."""
        how = f"{self.frozen_stages} {self.layer_decay}".encode()
        return hashlib.sha256(how + weights_digest(self.segmenter.network_)).digest()


def take_weights(
    network: nn.Module, classes: NDArray[np.int32], segmenter: SemanticNetSegmenter
) -> None:
    """Give a new network the weights of a trained one, as far as they fit its classes.

    Parameters
    ----------
    network : torch.nn.Module
        Made by ``segmenter`` for these classes. Changed in place.
    classes : (K,) int32
        Ids, sorted.
    segmenter : SemanticNetSegmenter
        Fitted.

    Raises
    ------
    ValueError
        If the network cannot be made for other classes.
    """
    old, own = segmenter.network_.state_dict(), network.state_dict()
    if np.array_equal(classes, segmenter.classes_):
        network.load_state_dict(old)
        return
    weights = {}
    for name, tensor in own.items():
        if name in _of_classes(segmenter):
            weights[name] = _with_known_classes(tensor, classes, old[name], segmenter.classes_)
        else:
            weights[name] = old[name]
    network.load_state_dict(weights)


def _of_classes(segmenter: SemanticNetSegmenter) -> set[str]:
    """Names of the weights whose shape depends on the number of classes."""
    n_channels, n_classes = segmenter.n_channels_, len(segmenter.classes_)
    shapes = []
    for n in (n_classes + 1, n_classes + 2):
        state = segmenter._new_network(n_channels, n, seed=0).state_dict()
        shapes.append({name: tensor.shape for name, tensor in state.items()})
    return {name for name, shape in shapes[0].items() if shape != shapes[1][name]}


def _with_known_classes(
    new: Tensor, classes: NDArray[np.int32], old: Tensor, old_classes: NDArray[np.int32]
) -> Tensor:
    """New weights of a layer, with those of classes that were known before."""
    found = new.clone()
    axes = [axis for axis, (n, m) in enumerate(zip(new.shape, old.shape))
            if (n, m) == (len(classes), len(old_classes))]  # fmt: skip
    both, to, source = np.intersect1d(classes, old_classes, return_indices=True)
    if len(axes) != 1 or len(both) == 0:  # such as a layer from scores to scores
        return found
    found.movedim(axes[0], 0)[torch.from_numpy(to)] = old.movedim(axes[0], 0)[
        torch.from_numpy(source)
    ].to(found)
    return found
