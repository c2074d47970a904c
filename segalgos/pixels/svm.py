"""Pixels classified by a support vector machine on filter responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.svm import SVC, LinearSVC

from segalgos.base import Traits
from segalgos.checks import (
    check_bool,
    check_choice,
    check_class_weight,
    check_int,
    check_real,
)
from segalgos.parallel import map_strips, one_blas_thread
from segalgos.pixels._kernel_machine import MAX_DEGREE, Kernel, KernelMachine, pairs_of, vote
from segalgos.pixels.calibration import couple_pairs, fit_sigmoid
from segalgos.pixels.sampling import draw_balanced
from segalgos.pixels.segmenter import PixelSegmenter

__all__ = ["SVMSegmenter"]

KERNELS = ("linear", "rbf", "poly", "sigmoid")
POOL = 10  # labelled pixels looked at for each one that is learned from
N_FOLDS = 3
FARTHEST = 1e4  # standard deviations; farther pixels count as this far, so float32 suffices
SMALLEST_EIGENVALUE = 1e-5  # of the largest; below it a direction is float32's rounding
ROUNDING = 1e-6
STRIP = 8192

Solver = Callable[[NDArray, NDArray, NDArray], KernelMachine]


def _moments(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each feature (F,); inf where it is constant."""
    scale = rows.std(axis=0, dtype=np.float64)
    # All features are in the image's unit, so this is what float32 leaves of no difference.
    scale[scale <= ROUNDING * np.abs(rows).max()] = np.inf
    return rows.mean(axis=0, dtype=np.float64), scale


def _signs(n_classes: int, one_vs_one: bool) -> NDArray[np.int8]:
    """Sign (K, D) that each decision has for pixels of each class; 0 where it has no say."""
    if n_classes == 2:
        return np.array([[-1], [1]], np.int8)
    if not one_vs_one:
        return 2 * np.eye(n_classes, dtype=np.int8) - 1
    signs = np.zeros((n_classes, len(pairs_of(n_classes))), np.int8)
    for column, (first, second) in enumerate(pairs_of(n_classes)):
        signs[first, column], signs[second, column] = 1, -1
    return signs


def _folds(index: NDArray[np.intp], rng: np.random.RandomState) -> NDArray[np.intp]:
    """Fold of each pixel, every class shared out evenly; -1 in classes too small for that."""
    folds = np.full(len(index), -1)
    for k in np.unique(index):
        members = rng.permutation(np.flatnonzero(index == k))
        if len(members) >= N_FOLDS:
            folds[members] = np.arange(len(members)) % N_FOLDS
    return folds


class SVMSegmenter(PixelSegmenter):
    """Classify every pixel by a support vector machine on multi-scale filter responses.

    Learns from dense label maps or from scribbles (-1 where nothing was drawn), on one
    image or many.

    Parameters
    ----------
    kernel : {"linear", "rbf", "poly", "sigmoid"}, default="rbf"
    C : float, default=1.0
        What a pixel on the wrong side of its margin costs.
    gamma : {"scale", "auto"} or float, default="scale"
        Of the kernels but "linear", as in scikit-learn; features are standardised first.
    degree : int, default=3
        Of "poly"; at most 10.
    coef0 : float, default=0.0
        Of "poly" and "sigmoid".
    approximation : {"fourier", "nystroem"}, optional
        Replaces the kernel by `n_components` features of random frequencies ("rbf" only)
        or of kernels to drawn pixels, and a linear machine on these: fitting takes linear
        time, so that `max_samples` may be large.
    n_components : int, default=300
    class_weight : dict, "balanced" or None, default=None
        Factors of `C`. "balanced" matters only where a class has too few pixels to be
        drawn as often as others. A class of weight 0 is never predicted.
    scales : sequence of float, default=(1, 2, 4, 8)
        Standard deviations of the filters, in pixels: about the half widths of what
        tells classes apart.
    features : sequence of str, optional
        Kinds of features, see `segalgos.pixel_features`.
    per_channel : bool, default=False
        Describe the texture of each channel, not of their mean.
    spacing : sequence of float, optional
        Size of a pixel along each axis, for scales in other units than pixels.
    extra : callable, optional
        Features of your own, ``extra(image (H, W, C) float32) -> (H, W, m)``: the
        activations of a net, say. With an attribute ``halo``, how many pixels it looks
        away, images are worked on in tiles; without it as a whole. A model file cannot
        hold it.
    n_features_to_select : int, optional
        Learn from so many features only, those that matter most to a random forest of all:
        prediction computes no others.
    max_samples : int, default=4000
        Labelled pixels to learn from, of each class about as many.
    n_rounds : int, default=1
        How often hard pixels are added. The first machine learns from
        ``max_samples // (n_rounds + 1)`` pixels at random; each round adds up to as many
        of those that the machine before has on the wrong side or inside of its margin.
    probability : bool, default=True
        False saves three fits: pixels get the machine's own label, its probability is 1.
    smoothing : {"random_walker", "graph_cut"}, optional
        Smooth probabilities along edges: see `segalgos.smooth_proba`. The whole image's
        are held at once then.
    smoothness : float, default=1.0
        How much neighbours count in that.
    cache_mb : float, default=512
        Most megabytes of features of scribbled images to keep, for `refit` and for
        predicting these images again.
    channel_axis : int, None or "auto", default="auto"
        None for volumes (D, H, W), -1 for many channels.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : (K,) int32
    feature_names_ : list of str
        Those that are learned from.
    mean_, scale_ : (F,) float64
        Taken off the features, and what they are divided by; inf for those that are
        constant, so that they count for nothing.
    machine_ : KernelMachine or None
        None for one class, which every pixel gets then.
    one_vs_one_ : bool
        Whether it decides between the pairs of classes (kernels), or on each class against
        the rest ("linear" and approximations).
    sigmoids_ : (n_decisions, 2) float64 or None
        Slope and offset of each decision's sigmoid.

    See Also
    --------
    segalgos.pixel_features : The features.
    RandomForestSegmenter : Needs no scaling and no kernel, and learns from more pixels.

    Notes
    -----
    Machines are fitted by libsvm and, where linear, liblinear (with squared hinge loss).
    Hard pixels are looked for among ``10 * max_samples`` labelled ones, drawn like those
    that are learned from.

    Probabilities are Platt's: sigmoids of decision values that the pixels got from machines
    fitted without them, in three folds. Hard pixels have no part in the sigmoids, since they
    are no fair sample. Pixels of a class of fewer than three are never left out.
    Probabilities of pairs are coupled by the formula of Price et al., those of classes
    against the rest are divided by their sum. The label is the most probable class, so near
    a boundary it may differ from the machine's; with ``probability=False`` it does not.
    Since all classes are drawn alike, probabilities are those of classes that are
    equally frequent.

    Fitting a kernel takes between O(max_samples**2) and O(max_samples**3) time, prediction
    O(pixels * vectors * features), and O(pixels * n_components * features) for
    approximations.

    References
    ----------
    .. [1] C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20, 1995.
    .. [2] C.-C. Chang and C.-J. Lin, "LIBSVM: a library for support vector machines",
       ACM TIST 2, 2011.
    .. [3] A. Rahimi and B. Recht, "Random features for large-scale kernel machines",
       NIPS, 2007.
    .. [4] C. Williams and M. Seeger, "Using the Nystroem method to speed up kernel
       machines", NIPS, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import SVMSegmenter
    >>> image = np.zeros((20, 20)); image[:, 10:] = 1
    >>> scribbles = np.full((20, 20), -1); scribbles[5, :3] = 0; scribbles[5, -3:] = 1
    >>> segmenter = SVMSegmenter(scales=[1], random_state=0)
    >>> int(segmenter.fit(image, scribbles).predict(image).sum())
    200
    """

    traits = Traits(
        task="semantic",
        family="pixels",
        year=1995,
        needs_fit=True,
        needs_labels=True,
        takes_sample_weight=True,
        ndims=(2, 3),
        deterministic=False,
        keeps_uint8=True,
    )
    _draws_balanced = True

    def __init__(
        self,
        kernel: str = "rbf",
        *,
        C: float = 1.0,
        gamma: float | str = "scale",
        degree: int = 3,
        coef0: float = 0.0,
        approximation: str | None = None,
        n_components: int = 300,
        class_weight: Any = None,
        scales: Sequence[float] = (1, 2, 4, 8),
        features: Sequence[str] | None = None,
        per_channel: bool = False,
        spacing: Sequence[float] | None = None,
        extra: Callable[[NDArray[np.float32]], ArrayLike] | None = None,
        n_features_to_select: int | None = None,
        max_samples: int = 4000,
        n_rounds: int = 1,
        probability: bool = True,
        smoothing: str | None = None,
        smoothness: float = 1.0,
        cache_mb: float = 512,
        channel_axis: int | str | None = "auto",
        random_state: Any = None,
    ):
        self.kernel = kernel
        self.C = C
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.approximation = approximation
        self.n_components = n_components
        self.class_weight = class_weight
        self.scales = scales
        self.features = features
        self.per_channel = per_channel
        self.spacing = spacing
        self.extra = extra
        self.n_features_to_select = n_features_to_select
        self.max_samples = max_samples
        self.n_rounds = n_rounds
        self.probability = probability
        self.smoothing = smoothing
        self.smoothness = smoothness
        self.cache_mb = cache_mb
        self.channel_axis = channel_axis
        self.random_state = random_state

    @classmethod
    def small(cls):
        """Make a machine of few pixels on two scales.

        Returns
        -------
        SVMSegmenter
        """
        return cls(scales=(1, 2), max_samples=200, random_state=0)

    def _check_classifier(self):
        caller = type(self).__name__
        check_choice(caller, "kernel", self.kernel, KERNELS)
        check_real(caller, "C", self.C, above=0)
        if self.gamma not in ("scale", "auto"):
            check_real(caller, "gamma", self.gamma, above=0)
        check_int(caller, "degree", self.degree, low=1, high=MAX_DEGREE)
        check_real(caller, "coef0", self.coef0)
        check_int(caller, "n_components", self.n_components, low=1)
        check_class_weight(caller, self.class_weight)
        check_int(caller, "n_rounds", self.n_rounds, low=0)
        check_bool(caller, "probability", self.probability)
        if self.approximation is None:
            return
        check_choice(caller, "approximation", self.approximation, ("fourier", "nystroem"))
        if self.kernel == "linear" or (self.approximation, self.kernel) in (
            ("fourier", "poly"),
            ("fourier", "sigmoid"),
        ):
            raise ValueError(
                f"{caller}: approximation is {self.approximation!r} with the kernel "
                f"{self.kernel!r}, expected 'fourier' with 'rbf', or 'nystroem' with 'rbf', "
                "'poly' or 'sigmoid': change one of them."
            )

    # --- fitting -------------------------------------------------------------------------

    def _n_pixels(self):
        return POOL * self.max_samples

    def _fit_rows(self, rows, classes, weights, rng):
        weights = self._row_weights(classes, weights)
        rows, classes, weights = rows[weights > 0], classes[weights > 0], weights[weights > 0]
        known, index = np.unique(classes, return_inverse=True)
        self.mean_, self.scale_ = _moments(rows)
        self.machine_ = self.sigmoids_ = None
        self.one_vs_one_ = self.kernel != "linear" and self.approximation is None
        if len(known) == 1:
            return known
        rows = self._standardise(rows)
        share = max(self.max_samples // (self.n_rounds + 1), 1)
        chosen = draw_balanced(index, share, rng)
        n_fair = len(chosen)
        signs = _signs(len(known), self.one_vs_one_)
        with one_blas_thread():
            solve = self._make_solver(rows, rows[chosen], rng)
            self.machine_ = solve(rows[chosen], index[chosen], weights[chosen])
            for _ in range(self.n_rounds):
                rest = np.setdiff1d(np.arange(len(rows)), chosen)
                decisions = self.machine_.decisions(rows[rest])
                sign = signs[index[rest]]
                hard = rest[((sign * decisions < 1) & (sign != 0)).any(axis=1)]
                if len(hard) == 0:
                    break
                more = hard[draw_balanced(index[hard], share, rng)]
                chosen = np.concatenate([chosen, more])
                self.machine_ = solve(rows[chosen], index[chosen], weights[chosen])
            if self.probability:
                self.sigmoids_ = self._calibrate(
                    solve, rows[chosen], index[chosen], weights[chosen], n_fair, signs, rng
                )
        return known

    def _row_weights(self, classes, weights) -> NDArray[np.float64]:
        """Weight of each row: its own times that of its class."""
        weights = np.ones(len(classes)) if weights is None else weights.astype(np.float64)
        if self.class_weight is None:
            return weights
        known, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
        if self.class_weight == "balanced":
            factors = len(classes) / (len(known) * counts)
        else:
            factors = np.array([float(self.class_weight.get(int(k), 1.0)) for k in known])
        weights = weights * factors[index]
        if not (weights > 0).any():
            raise ValueError(
                f"{type(self).__name__}: class_weight gives every labelled class the weight 0: "
                "expected one above 0."
            )
        return weights

    def _standardise(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.empty(rows.shape, np.float32)

        def strip(start, stop):
            part = (rows[start:stop] - self.mean_) / self.scale_
            np.clip(part, -FARTHEST, FARTHEST, out=out[start:stop], casting="same_kind")

        map_strips(strip, len(rows), STRIP)
        return out

    def _make_solver(self, rows, sample, rng) -> Solver:
        """Prepare what all fits have in common; gives ``solve(rows, index, weights)``."""
        if self.kernel == "linear":
            return partial(self._solve_linear, None)
        variance = float(rows.var(dtype=np.float64))
        named = {"auto": 1 / rows.shape[1], "scale": 1 / (rows.shape[1] * (variance or 1.0))}
        gamma = float(named[self.gamma] if isinstance(self.gamma, str) else self.gamma)
        kernel = Kernel(self.kernel, gamma, int(self.degree), float(self.coef0))
        if self.approximation is None:
            return partial(self._solve_kernel, kernel)
        if self.approximation == "fourier":
            n = self.n_components
            frequencies = rng.normal(0, np.sqrt(2 * gamma), (n, rows.shape[1]))
            features = KernelMachine(
                frequencies.astype(np.float32),
                np.eye(n, dtype=np.float32) * np.float32(np.sqrt(2 / n)),
                np.zeros(n, np.float32),
                Kernel("cosine"),
                rng.uniform(0, 2 * np.pi, n).astype(np.float32),
            )
        else:
            features = self._nystroem(sample, kernel, rng)
        return partial(self._solve_linear, features)

    def _nystroem(self, sample, kernel, rng) -> KernelMachine:
        """Features whose scalar products are kernels, exact on pixels drawn from a sample."""
        n = min(self.n_components, len(sample))
        vectors = sample[rng.choice(len(sample), n, replace=False)]
        eye, zeros = np.eye(n, dtype=np.float32), np.zeros(n, np.float32)
        kernels = KernelMachine(vectors, eye, zeros, kernel).decisions(vectors)
        values, directions = np.linalg.eigh((kernels + kernels.T).astype(np.float64) / 2)
        kept = values > SMALLEST_EIGENVALUE * np.abs(values).max()
        kept[-1] = True  # kernels of constant features may all be 0
        scales = np.sqrt(np.where(values > 0, values, 1))
        projection = (directions / scales)[:, kept].astype(np.float32)
        return KernelMachine(vectors, projection, zeros[: projection.shape[1]], kernel)

    def _solve_kernel(self, kernel, rows, index, weights) -> KernelMachine:
        svc = SVC(
            C=self.C,
            kernel=kernel.name,
            gamma=kernel.gamma,
            degree=kernel.degree,
            coef0=kernel.coef0,
            random_state=0,  # neither solver draws, but None would touch the global generator
        )
        return KernelMachine.from_svc(svc.fit(rows, index, weights))

    def _solve_linear(self, features, rows, index, weights) -> KernelMachine:
        if features is not None:
            rows = features.decisions(rows)
        # The primal problem: its solver draws nothing at random.
        svc = LinearSVC(C=self.C, dual=False, random_state=0).fit(rows, index, weights)
        intercepts = svc.intercept_.astype(np.float32)
        if features is None:
            eye = np.eye(len(intercepts), dtype=np.float32)
            return KernelMachine(svc.coef_.astype(np.float32), eye, intercepts, Kernel("linear"))
        coefficients = (features.coefficients @ svc.coef_.T).astype(np.float32)
        return KernelMachine(
            features.vectors, coefficients, intercepts, features.kernel, features.offsets
        )

    def _calibrate(self, solve, rows, index, weights, n_fair, signs, rng) -> NDArray[np.float64]:
        """Fit each decision's sigmoid on the first `n_fair` rows."""
        own = self.machine_.decisions(rows)
        held_out = own.copy()
        folds = _folds(index, rng)
        for fold in range(N_FOLDS):
            out = folds == fold
            if out.any():
                machine = solve(rows[~out], index[~out], weights[~out])
                held_out[out] = machine.decisions(rows[out])
        sigmoids = []
        for column in range(own.shape[1]):
            sign = signs[index[:n_fair], column]
            fair = np.flatnonzero(sign)
            fit = partial(fit_sigmoid, positive=sign[fair] > 0, weights=weights[fair])
            slope, offset = fit(held_out[fair, column])
            if slope <= 0:  # few pixels, none like another: only the machine's own tell
                slope, offset = fit(own[fair, column])
            sigmoids.append((max(slope, 0.0), offset))
        return np.array(sigmoids)

    # --- prediction ----------------------------------------------------------------------

    def _rows_proba(self, rows):
        n_classes = len(self.known_classes_)
        if self.machine_ is None:
            return np.ones((len(rows), 1), np.float32)
        decisions = np.nan_to_num(self.machine_.decisions(self._standardise(rows)), copy=False)
        if self.sigmoids_ is None:
            if self.one_vs_one_ or n_classes == 2:
                index = vote(decisions, n_classes)
            else:
                index = np.argmax(decisions, axis=1)
            return np.eye(n_classes, dtype=np.float32)[index]
        slopes, offsets = self.sigmoids_.astype(np.float32).T
        proba = expit(decisions * slopes + offsets)
        if n_classes == 2:
            return np.hstack([1 - proba, proba])
        if self.one_vs_one_:
            return couple_pairs(proba, pairs_of(n_classes), n_classes)
        proba += np.finfo(np.float32).tiny  # all may be 0
        return proba / proba.sum(axis=1, keepdims=True)

    # --- saving --------------------------------------------------------------------------

    def _get_state(self):
        names = ("mean_", "scale_", "one_vs_one_", "sigmoids_")
        state = {name: getattr(self, name) for name in names}
        state["machine_"] = None if self.machine_ is None else self.machine_.get_state()
        return {**super()._get_state(), **state}

    def _set_state(self, state):
        super()._set_state(state)
        n_features, n_classes = len(self.feature_names_), len(self.known_classes_)
        mean, scale, sigmoids = state["mean_"], state["scale_"], state["sigmoids_"]
        machine, one_vs_one = state["machine_"], state["one_vs_one_"]
        if type(one_vs_one) is not bool or n_classes == 0 or (machine is None) != (n_classes == 1):
            raise ValueError("its machine and its classes do not fit together")
        n_decisions = _signs(n_classes, one_vs_one).shape[1]
        for array, shape in ((mean, (n_features,)), (scale, (n_features,)), (sigmoids, None)):
            if array is None and shape is None:
                continue
            shape = shape or (n_decisions, 2)
            if array.dtype != np.float64 or array.shape != shape or np.isnan(array).any():
                raise ValueError(f"an array is not float64 of shape {shape}")
        if not (scale > 0).all():
            raise ValueError("a feature's scale is not above 0")
        self.mean_, self.scale_, self.sigmoids_, self.one_vs_one_ = (
            mean,
            scale,
            sigmoids,
            one_vs_one,
        )
        self.machine_ = None
        if machine is not None:
            self.machine_ = KernelMachine.from_state(machine, n_features, n_decisions)
