"""The bare kernel machine: a weighted sum of kernels between rows and support vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from sklearn.svm import SVC

from segalgos.parallel import map_strips, one_blas_thread

__all__ = ["KERNELS", "Kernel", "KernelMachine", "pairs_of", "vote"]

KERNELS = ("linear", "rbf", "poly", "sigmoid", "cosine")
BLOCK_VALUES = 1 << 17  # kernel values of a block of rows stay in the second-level cache
STRIP_BLOCKS = 16
MAX_DEGREE = 10

LOG2_E = 1.4426950408889634
LOWEST = np.float32(-126)  # below it a power of two is no normal float32
HIGHEST = np.float32(126)
ROUNDER = np.float32(1.5 * 2**23)  # adding it leaves the nearest integer in the low bits
# The polynomial of degree 5 that is nearest to 2**r for |r| <= 1/2: within 8e-8 of it.
P0, P1, P2, P3, P4, P5 = (
    np.float32(p)
    for p in (
        1.0000000716546789,
        0.6931469670646155,
        0.24022119723855323,
        0.05550713273733733,
        0.009675541333835871,
        0.001327647191623725,
    )
)


# --- elementwise parts of the kernels ----------------------------------------------------


@njit(nogil=True, cache=True)
def _exp2(values, highest):
    """Replace values by the powers of two that they are the logarithms of.

    Parameters
    ----------
    values : (n,) float32, overwritten
        Below -126 they count as -126.
    highest : float32
        Above it they count as it; at most 126.

    Notes
    -----
    ``2**x = 2**k * 2**r`` with integer k and ``|r| <= 1/2``: within 2.5e-7, relative. k is
    added to the exponent's bits. Without calls and branches, so that the loop becomes
    vector instructions.
    """
    for i in range(values.shape[0]):
        x = min(max(values[i], LOWEST), highest)
        shifted = np.float32(x + ROUNDER)
        r = x - (shifted - ROUNDER)
        p = np.float32(((((P5 * r + P4) * r + P3) * r + P2) * r + P1) * r + P0)
        k = np.int32(shifted.view(np.int32) << np.int32(23))
        values[i] = np.int32(p.view(np.int32) + k).view(np.float32)


@njit(nogil=True, cache=True)
def _tanh(values):
    """Replace values by their hyperbolic tangents.

    Parameters
    ----------
    values : (n,) float32, overwritten
        ``2 * log2(e)`` times the arguments.
    """
    _exp2(values, HIGHEST)
    for i in range(values.shape[0]):
        values[i] = np.float32(1) - np.float32(2) / (values[i] + np.float32(1))


@njit(nogil=True, cache=True)
def _power(values, degree):
    """Raise values to a whole power, (n,) float32, overwritten."""
    for i in range(values.shape[0]):
        x = values[i]
        product = np.float32(1)
        for _ in range(degree):
            product *= x
        values[i] = product


@dataclass(frozen=True)
class Kernel:
    """A kernel's name and numbers.

    Parameters
    ----------
    name : {"linear", "rbf", "poly", "sigmoid", "cosine"}
        Of a row x and a vector v: ``x @ v``, ``exp(-gamma * |x - v|**2)``,
        ``(gamma * x @ v + coef0)**degree``, ``tanh(gamma * x @ v + coef0)``; "cosine" is a
        random Fourier feature, ``cos(x @ v + offset)`` with the vector's own offset.
    gamma : float, default=1.0
    degree : int, default=3
    coef0 : float, default=0.0
    """

    name: str
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 0.0


# --- one against one ---------------------------------------------------------------------


def pairs_of(n_classes: int) -> list[tuple[int, int]]:
    """Pairs of classes in libsvm's order.

    Parameters
    ----------
    n_classes : int

    Returns
    -------
    list of (int, int)
    """
    return list(combinations(range(n_classes), 2))


def vote(decisions: NDArray[np.float32], n_classes: int) -> NDArray[np.intp]:
    """Class with the most won duels; of several, the first.

    Parameters
    ----------
    decisions : (n, n_pairs) float32
        For two classes positive for the second one, else positive for the first of each
        pair: scikit-learn's signs.
    n_classes : int

    Returns
    -------
    (n,) intp
    """
    if n_classes == 2:
        return (decisions[:, 0] > 0).astype(np.intp)
    votes = np.zeros((len(decisions), n_classes), np.int32)
    for (first, second), decision in zip(pairs_of(n_classes), decisions.T, strict=True):
        won = decision > 0
        votes[:, first] += won
        votes[:, second] += ~won
    return np.argmax(votes, axis=1)


# --- the machine -------------------------------------------------------------------------


class KernelMachine:
    """Decision values from kernels between rows and support vectors.

    Parameters
    ----------
    vectors : (n_vectors, F) float32
    coefficients : (n_vectors, D) float32
        A column a decision.
    intercepts : (D,) float32
    kernel : Kernel
    offsets : (n_vectors,) float32, optional
        For the kernel "cosine".

    Notes
    -----
    Rows pass in blocks. A block's scalar products with the support vectors, squared norms
    and constants included, are one matrix product in float32; the kernel's function goes
    over them in the cache; a second product sums them up: O(n * n_vectors * (F + D)) time,
    O(n_vectors) memory a thread. Squared distances do not suffer from float32, because the
    vectors' mean is taken off first.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import SVC
    >>> from segalgos.pixels._kernel_machine import KernelMachine
    >>> rows = np.float32([[0], [1], [2], [3]])
    >>> svc = SVC(gamma=1.0).fit(rows, [0, 0, 1, 1])
    >>> machine = KernelMachine.from_svc(svc)
    >>> machine.predict(rows)
    array([0, 0, 1, 1])
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        coefficients: NDArray[np.float32],
        intercepts: NDArray[np.float32],
        kernel: Kernel,
        offsets: NDArray[np.float32] | None = None,
    ):
        self.vectors, self.coefficients, self.intercepts = vectors, coefficients, intercepts
        self.kernel, self.offsets = kernel, offsets
        self.classes = np.arange(2)
        exact = vectors.astype(np.float64)
        name, gamma = kernel.name, kernel.gamma
        ones = np.ones(len(vectors))
        self._centre = np.zeros(vectors.shape[1], np.float32)
        # Rows get a column of ones and, for "rbf", one of their squared norms.
        if name == "rbf":
            self._centre = exact.mean(axis=0).astype(np.float32)
            exact -= self._centre
            squares = (exact**2).sum(axis=1)
            first = np.vstack([2 * gamma * exact.T, -gamma * squares, -gamma * ones]) * LOG2_E
        elif name == "sigmoid":
            first = np.vstack([gamma * exact.T, kernel.coef0 * ones]) * (2 * LOG2_E)
        elif name == "poly":
            first = np.vstack([gamma * exact.T, kernel.coef0 * ones])
        elif name == "cosine":
            first = np.vstack([exact.T, offsets])
        else:  # linear: both products are one
            first = np.vstack([exact.T @ coefficients, intercepts])
        self._first = np.ascontiguousarray(first, dtype=np.float32)

    @classmethod
    def from_svc(cls, svc: SVC) -> Self:
        """Take over a fitted `sklearn.svm.SVC`.

        Parameters
        ----------
        svc : SVC
            With a number as ``gamma``, and a kernel by name.

        Returns
        -------
        KernelMachine

        Raises
        ------
        ValueError
            If its kernel is another one, or its gamma no number.
        """
        if svc.kernel not in KERNELS[:4]:
            raise ValueError(
                f"KernelMachine: the kernel is {svc.kernel!r}, expected one of {KERNELS[:4]}."
            )
        if isinstance(svc.gamma, str) and svc.kernel != "linear":
            raise ValueError(
                f"KernelMachine: gamma is {svc.gamma!r}, whose value a fitted SVC does not tell: "
                "fit it with a number."
            )
        n_classes = len(svc.classes_)
        pairs = pairs_of(n_classes)
        ends = np.cumsum(svc.n_support_)
        of = [slice(end - n, end) for end, n in zip(ends, svc.n_support_, strict=True)]
        coefficients = np.zeros((ends[-1], len(pairs)), np.float32)
        for column, (first, second) in enumerate(pairs):
            # libsvm keeps a vector's coefficients against the other classes, in order.
            coefficients[of[first], column] = svc.dual_coef_[second - 1, of[first]]
            coefficients[of[second], column] = svc.dual_coef_[first, of[second]]
        gamma = 1.0 if isinstance(svc.gamma, str) else float(svc.gamma)
        machine = cls(
            np.ascontiguousarray(svc.support_vectors_, dtype=np.float32),
            coefficients,
            svc.intercept_.astype(np.float32),
            Kernel(svc.kernel, gamma, int(svc.degree), float(svc.coef0)),
        )
        machine.classes = svc.classes_
        return machine

    def decisions(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute all decision values.

        Parameters
        ----------
        rows : (n, F) float32

        Returns
        -------
        (n, D) float32
        """
        out = np.empty((len(rows), self.coefficients.shape[1]), np.float32)
        block = min(max(BLOCK_VALUES // self._first.shape[1], 16), 1024)
        with one_blas_thread():
            map_strips(partial(self._strip, rows, block, out), len(rows), STRIP_BLOCKS * block)
        return out

    def _strip(self, rows, block, out, start, stop):
        """Fill ``out[start:stop]``."""
        n_features = rows.shape[1]
        padded = np.ones((block, len(self._first)), np.float32)
        values = np.empty((block, self._first.shape[1]), np.float32)
        sums = np.empty((block, out.shape[1]), np.float32)
        for begin in range(start, stop, block):
            end = min(begin + block, stop)
            some, here = padded[: end - begin], values[: end - begin]
            moved = some[:, :n_features]
            np.subtract(rows[begin:end], self._centre, out=moved)
            if self.kernel.name == "rbf":
                np.einsum("ij,ij->i", moved, moved, out=some[:, -1])
            np.dot(some, self._first, out=here)
            if self.kernel.name == "linear":
                out[begin:end] = here
                continue
            self._apply(here)
            np.add(
                np.dot(here, self.coefficients, out=sums[: end - begin]),
                self.intercepts,
                out=out[begin:end],
            )

    def _apply(self, values: NDArray[np.float32]) -> None:
        """Turn scalar products into kernels, in place."""
        flat, name = values.reshape(-1), self.kernel.name
        if name == "rbf":
            _exp2(flat, np.float32(0))  # a rounded distance may be negative
        elif name == "sigmoid":
            _tanh(flat)
        elif name == "poly":
            _power(flat, self.kernel.degree)
        else:
            np.cos(flat, out=flat)

    def decision_function(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Decision values of the classes' pairs, as an SVC gives them.

        Parameters
        ----------
        rows : (n, F) array_like

        Returns
        -------
        (n, n_pairs) float32, or (n,) for two classes
            As ``SVC(decision_function_shape="ovo")``.
        """
        decisions = self.decisions(np.ascontiguousarray(rows, dtype=np.float32))
        return decisions[:, 0] if len(self.classes) == 2 else decisions

    def predict(self, rows: ArrayLike) -> NDArray:
        """Class that wins the most pairs, as libsvm does it.

        Parameters
        ----------
        rows : (n, F) array_like

        Returns
        -------
        (n,) ndarray
        """
        decisions = self.decisions(np.ascontiguousarray(rows, dtype=np.float32))
        return self.classes[vote(decisions, len(self.classes))]

    def get_state(self) -> dict[str, Any]:
        """The machine as plain values, for a model file.

        Returns
        -------
        dict of str to object
        """
        kernel = self.kernel
        return {
            "vectors": self.vectors,
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
            "offsets": self.offsets,
            "kernel": [kernel.name, kernel.gamma, kernel.degree, kernel.coef0],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], n_features: int, n_decisions: int) -> Self:
        """Make a machine from what `get_state` gave, read back from a file.

        Parameters
        ----------
        state : dict of str to object
        n_features, n_decisions : int

        Returns
        -------
        KernelMachine

        Raises
        ------
        ValueError
            If it is no machine.
        """
        names = ("vectors", "coefficients", "intercepts")
        vectors, coefficients, intercepts = (state[name] for name in names)
        offsets, (name, gamma, degree, coef0) = state["offsets"], state["kernel"]
        arrays = [vectors, coefficients, intercepts, *([] if offsets is None else [offsets])]
        n = len(vectors)
        ok = (
            all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays)
            and n > 0
            and vectors.shape == (n, n_features)
            and coefficients.shape == (n, n_decisions)
            and intercepts.shape == (n_decisions,)
            and (offsets.shape == (n,) if name == "cosine" else offsets is None)
            and name in KERNELS
            and all(type(v) in (int, float) and np.isfinite(v) for v in (gamma, coef0))
            and type(degree) is int
            and 0 <= degree <= MAX_DEGREE
        )
        if not ok:
            raise ValueError("its arrays are not those of a kernel machine")
        return cls(vectors, coefficients, intercepts, Kernel(name, gamma, degree, coef0), offsets)
