"""Random views of images, and where the same points of an image lie in two of them.

Every view is a function of a random generator alone, so views can be drawn on any thread and
training can be resumed at any step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from segalgos.training.augment import Augmentation, mirrored_window, relight

__all__ = ["ViewSampler"]

# Candidates for each point that is wanted in both views.
CANDIDATES = 8


@dataclass(frozen=True)
class _Place:
    """Where a view lies: a pixel at `offset` from its centre shows ``centre + turn @ offset``."""

    centre: NDArray[np.float64]
    turn: NDArray[np.float64]

    def to_image(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows and columns in the image of offsets (n, 2) from the centre of the view."""
        return self.centre + offsets @ self.turn.T

    def to_view(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Offsets from the centre of the view of rows and columns in the image."""
        return (places - self.centre) @ np.linalg.inv(self.turn).T


class ViewSampler:
    """Draws views of random images, one by one or in pairs that overlap.

    Parameters
    ----------
    images : sequence of (H, W, C) ndarray
        Sizes may differ.
    shape : tuple of int
        Height and width of a view.
    prepare : callable
        Called as ``prepare(window, i)`` with a window of the image of index i; gives float32 of
        about zero mean and unit variance.
    augmentation : Augmentation, optional
        How views vary. None: crops as they are.

    Notes
    -----
    Images are drawn by their numbers of pixels. They are mirrored at their borders, so that
    views may be larger than they are. Where things become smaller, pixels are interpolated and
    not averaged, which aliases below a scale of a half.
    """

    def __init__(
        self,
        images: Sequence[NDArray],
        *,
        shape: tuple[int, int],
        prepare: Callable[[NDArray, int], NDArray[np.float32]],
        augmentation: Augmentation | None = None,
    ):
        self.images = images
        self.shape = shape
        self.prepare = prepare
        self.augmentation = augmentation
        sizes = np.array([image.shape[0] * image.shape[1] for image in images], np.float64)
        self._chances = sizes / sizes.sum()

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one view.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        (h, w, C) float32
        """
        i = self._image(rng)
        return self._view(i, self._place(rng, i), rng)

    def draw_pair(
        self, rng: np.random.Generator, n_points: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw two views of one image that overlap, and points that both of them show.

        Parameters
        ----------
        rng : numpy.random.Generator
        n_points : int

        Returns
        -------
        views : (2, h, w, C) float32
        points : (2, n_points, 2) float32
            Columns and rows in each view, from -1 at its one border to 1 at the other, as
            `torch.nn.functional.grid_sample` takes them. Drawn evenly in what both views show.
        """
        i = self._image(rng)
        first = self._place(rng, i)
        second = self._place(rng, i, near=first)
        views = np.stack([self._view(i, place, rng) for place in (first, second)])
        return views, self._shared_points(first, second, rng, n_points)

    def _image(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.images), p=self._chances))

    def _place(self, rng: np.random.Generator, i: int, near: _Place | None = None) -> _Place:
        """Choose a place in an image; `near` another one, its centre lies inside of that."""
        look = self.augmentation
        flip, angle, scale = np.ones(2), 0.0, 1.0
        if look is not None:
            flip[0] = -1 if look.flip_rows and rng.integers(2) else 1
            flip[1] = -1 if look.flip_columns and rng.integers(2) else 1
            if look.quarter_turns:
                angle = math.pi / 2 * int(rng.integers(4))
            angle += math.radians(rng.uniform(-look.rotation, look.rotation))
            scale = math.exp(rng.uniform(*np.log(look.scale)))
        cos, sin = math.cos(angle), math.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) * flip / scale
        # Half of what the view spans in the image, along rows and columns.
        half = np.abs(turn) @ np.array(self.shape) / 2
        size = np.array(self.images[i].shape[:2], np.float64)
        low, high = np.minimum(half, size / 2), np.maximum(size - half, size / 2)
        centre = rng.uniform(low, high)
        if near is not None:
            inside = rng.uniform(-0.5, 0.5, 2) * self.shape
            centre = np.clip(near.to_image(inside[None])[0], low, high)
        return _Place(centre, turn)

    def _view(self, i: int, place: _Place, rng: np.random.Generator) -> NDArray[np.float32]:
        """Interpolate a view of an image, and re-light it."""
        height, width = self.shape
        half = np.abs(place.turn) @ np.array([height, width]) / 2
        row, column = np.floor(place.centre - half).astype(int) - 1
        bottom, right = np.ceil(place.centre + half).astype(int) + 1
        window = mirrored_window(self.images[i], row, column, bottom - row, right - column)
        offsets = _offsets(np.arange(height) + 0.5, np.arange(width) + 0.5, self.shape)
        places = place.to_image(offsets) - (row, column)
        grid = 2 * places[:, ::-1] / (right - column, bottom - row) - 1
        grid = torch.from_numpy(grid.astype(np.float32)).reshape(1, height, width, 2)
        x = torch.from_numpy(np.ascontiguousarray(self.prepare(window, i))).permute(2, 0, 1)
        x = F.grid_sample(x[None], grid, padding_mode="border", align_corners=False)
        view = x[0].permute(1, 2, 0).numpy()
        return view if self.augmentation is None else relight(rng, self.augmentation, view)

    def _shared_points(
        self, first: _Place, second: _Place, rng: np.random.Generator, n_points: int
    ) -> NDArray[np.float32]:
        half = np.array(self.shape) / 2
        offsets = rng.uniform(-half, half, (CANDIDATES * n_points, 2))
        others = second.to_view(first.to_image(offsets))
        seen = np.flatnonzero((np.abs(others) < half).all(axis=1))
        if len(seen) == 0:  # hardly a pixel in common: the middle of what is nearest
            offsets = first.to_view(second.centre[None]).clip(-half, half)
            others = second.to_view(first.to_image(offsets)).clip(-half, half)
            seen = np.array([0])
        seen = seen[:n_points] if len(seen) >= n_points else rng.choice(seen, n_points)
        points = np.stack([offsets[seen], others[seen]]) / half
        return points[..., ::-1].astype(np.float32)


def _offsets(
    rows: NDArray[np.float64], columns: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Offsets (n, 2) from the centre of a view of all its pixels, row by row."""
    grid = np.meshgrid(rows - shape[0] / 2, columns - shape[1] / 2, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2)
