"""Adapt a fitted segmenter to images that look different, without labels of these."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from segalgos.adaptation.domains import check_domains
from segalgos.base import Segmenter, SemanticSegmenter
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["NET_METHODS", "PIXEL_METHODS", "adapt"]

#: Methods for nets, and where each is.
NET_METHODS = {
    "batch_norm": "batch_norm.adapt_batch_norm",
    "coral": "coral.adapt_coral",
    "fourier": "fourier.adapt_fourier",
    "entropy": "entropy.adapt_entropy",
    "self_training": "self_training.adapt_self_training",
}
#: Methods for pixel classifiers.
PIXEL_METHODS = {
    "importance": "importance.adapt_importance",
    "coral": "feature_alignment.adapt_feature_coral",
}


def adapt(
    segmenter: SemanticSegmenter,
    target_images: ArrayLike | Sequence[ArrayLike],
    *,
    method: str,
    source_images: ArrayLike | Sequence[ArrayLike] | None = None,
    source_labels: ArrayLike | Sequence[ArrayLike] | None = None,
    epochs: int | None = None,
    time_budget: float | None = None,
    learning_rate: float | None = None,
    random_state: Any = None,
    checkpoint: str | os.PathLike | None = None,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    verbose: bool = False,
    **options: Any,
) -> Any:
    """Adapt a fitted segmenter to unlabelled images of another domain.

    Parameters
    ----------
    segmenter : Segmenter
        A fitted semantic net (`UNetSegmenter`, `SegFormerSegmenter`, `NetSegmenter` ...) or pixel
        classifier (`RandomForestSegmenter`, `SVMSegmenter`, `PixelClassifierSegmenter`). It is
        not changed.
    target_images : array_like or sequence of array_like
        One image of the target or many, of the same channels as those it learned from.
    method : str
        Nets: "batch_norm", "coral", "fourier", "entropy" or "self_training". Pixel classifiers:
        "importance" or "coral". See the notes.
    source_images : array_like or sequence of array_like, optional
        Images of the domain it was trained on. Needed by all methods that train but
        "batch_norm"; pixel classifiers that were not loaded from a file know theirs.
    source_labels : array_like or sequence of array_like, optional
        Their label maps, with classes that the segmenter knows.
    epochs : int, optional
        Times that training sees as many pixels as the target has; 20 if neither it nor
        `time_budget` is given. Like all that tells how to train it is refused by methods that
        take no steps: "batch_norm", and those of pixel classifiers.
    time_budget : float, optional
        Seconds that training may take.
    learning_rate : float, optional
        A tenth of the segmenter's, if left out.
    random_state : int, RandomState or None, default=None
    checkpoint : path-like, optional
        File that training is saved to after every epoch and resumed from.
    on_epoch_end : callable, optional
        Called with each new row of the ``history_`` of adaptation.
    verbose : bool, default=False
        Show a progress bar on stderr.
    **options
        Of the method: `prior_strength`; `coral_weight`; `band`, `entropy_weight`;
        `entropy_weight`; `teacher_decay`, `threshold`; of pixel classifiers `flattening`,
        `largest_weight`; `shrinkage`.

    Returns
    -------
    Segmenter
        A new fitted one of the same class, which predicts, saves, and may be adapted again.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the segmenter was not fitted.
    TypeError
        If it is of another kind, or an option is unknown.
    ValueError
        If there is no such method for it, labelled source images are missing, a network has no
        batch normalisation for "batch_norm", or anything else is not as expected.

    See Also
    --------
    segalgos.fine_tune : Where there are labels of the target.
    segalgos.prototype_head : Where a handful of its pixels is labelled.

    Notes
    -----
    ===================  ========  ========================================================
    method               source    what it does
    ===================  ========  ========================================================
    ``"batch_norm"``     no        takes batch statistics from the target (AdaBN)
    ``"coral"``          labelled  trains with features of equal covariance (Deep CORAL); a
                                   pixel classifier learns again from aligned features
    ``"fourier"``        labelled  trains in the light of the target (FDA)
    ``"entropy"``        labelled  trains to be sure of the target (ADVENT's MinEnt)
    ``"self_training"``  labelled  trains on mixed images that an averaged teacher labels
                                   (DACS)
    ``"importance"``     labelled  learns again, pixels weighed by their likeness to the
                                   target
    ===================  ========  ========================================================

    Training starts from the segmenter's weights with its loss, crops, augmentation and batch
    size; layers it froze stay frozen. Every method that trains a net ends by taking the
    statistics of batch normalisation, where there is any, from the target.

    Nothing tells from unlabelled images how well it went: keep some labelled images of the
    target to score on, and compare with the segmenter as it was.

    Same seed and `epochs`, same weights, whatever the number of threads.

    Examples
    --------
    >>> import segalgos
    >>> from segalgos import datasets
    >>> shapes = datasets.load("shapes", n_images=2, size=(48, 64))
    >>> images, labels = list(shapes.images), list(shapes.labels)
    >>> net = segalgos.UNetSegmenter.small().set_params(batch_norm=True).fit(images, labels)
    >>> dark = [image // 4 for image in images]
    >>> adapted = segalgos.adapt(net, dark, method="batch_norm")
    >>> adapted.predict(dark[0]).shape
    (48, 64)
    """
    methods = _methods_of(segmenter)
    check_is_fitted(segmenter)
    if not isinstance(method, str) or method not in methods:
        raise ValueError(
            f"adapt: method is {method!r}, expected one of {', '.join(map(repr, methods))} for a "
            f"{type(segmenter).__name__}."
        )
    module, name = methods[method].split(".")
    function = getattr(importlib.import_module(f"segalgos.adaptation.{module}"), name)
    _check_options(function, method, options)
    domains = check_domains(segmenter, target_images, source_images, source_labels)
    if method == "batch_norm" or methods is PIXEL_METHODS:
        _refuse_training(
            method,
            epochs=epochs,
            time_budget=time_budget,
            learning_rate=learning_rate,
            checkpoint=checkpoint,
            on_epoch_end=on_epoch_end,
        )
    if methods is PIXEL_METHODS:
        return function(segmenter, domains, random_state, **options)
    from segalgos.adaptation.training import Training

    training = Training(
        epochs=20 if epochs is None and time_budget is None else epochs,
        time_budget=time_budget,
        learning_rate=learning_rate,
        random_state=random_state,
        checkpoint=checkpoint,
        on_epoch_end=on_epoch_end,
        verbose=verbose,
    )
    training.check()
    return function(segmenter, domains, training, **options)


def _methods_of(segmenter: Any) -> dict[str, str]:
    """Methods for a segmenter of its kind."""
    if isinstance(segmenter, PixelSegmenter):
        return PIXEL_METHODS
    # No net can have been made without torch.
    if isinstance(segmenter, Segmenter) and segmenter.traits.family == "nets":
        from segalgos.nets.semantic import SemanticNetSegmenter

        if isinstance(segmenter, SemanticNetSegmenter):
            return NET_METHODS
    raise TypeError(
        f"adapt: segmenter is a {type(segmenter).__name__}, expected a semantic net such as "
        "UNetSegmenter or a pixel classifier such as RandomForestSegmenter."
    )


def _refuse_training(method: str, **how: Any) -> None:
    """Refuse what tells how to train."""
    for name, value in how.items():
        if value is not None:
            raise ValueError(
                f"adapt: {name} is {value!r}, but method {method!r} takes no steps of training: "
                "leave it out."
            )


def _check_options(function: Callable, method: str, options: dict[str, Any]) -> None:
    """Refuse options that a method does not have."""
    known = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(known)}."
            raise TypeError(f"adapt: method {method!r} has no option {name!r}: {hint}")
