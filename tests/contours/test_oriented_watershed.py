"""The oriented watershed transform against loops in Python, and on lines of known direction."""

import itertools
import math

import numpy as np
import pytest

from segalgos import oriented_watershed, thread_limit, watershed
from segalgos.contours.oriented_watershed import contour_orientation


def _sides(labels):
    """Side of a pixel -> its two corners and the pixels beside it, where regions meet."""
    sides = {}
    height, width = labels.shape
    for r in range(height):
        for c in range(width):
            for r2, c2, corners in (
                (r, c + 1, ((r, c + 1), (r + 1, c + 1))),
                (r + 1, c, ((r + 1, c), (r + 1, c + 1))),
            ):
                if r2 < height and c2 < width:
                    a, b = labels[r, c], labels[r2, c2]
                    if a != b and a >= 0 and b >= 0:
                        sides[corners] = (r, c), (r2, c2)
    return sides


def _split(path, tolerance):
    """Cut a path of corners into segments; pairs of (part, angle)."""
    (r0, c0), (r1, c1) = path[0], path[-1]
    length = math.hypot(r1 - r0, c1 - c0)
    if length == 0:
        away = [math.hypot(r - r0, c - c0) for r, c in path]
    else:
        away = [abs((r1 - r0) * (c - c0) - (c1 - c0) * (r - r0)) / length for r, c in path]
    k = int(np.argmax(away[1:-1])) + 1 if len(path) > 2 else 0
    if k and (length == 0 or away[k] > tolerance):
        return _split(path[: k + 1], tolerance) + _split(path[k:], tolerance)
    return [(path, math.atan2(r0 - r1, c1 - c0) % math.pi)]


def _angles(labels, tolerance):
    """Side -> orientation of the segment that it belongs to."""
    sides = _sides(labels)
    at = {}
    for corners, pixels in sides.items():
        pair = frozenset(int(labels[p]) for p in pixels)
        for corner in corners:
            at.setdefault(corner, []).append((corners, pair))
    ends = {k for k, v in at.items() if len(v) != 2 or v[0][1] != v[1][1]}
    left, angles = set(sides), {}
    for starts in (sorted(ends), sorted(set(at) - ends)):
        for start in starts:
            for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                path = [start]
                side = tuple(sorted((start, (start[0] + dr, start[1] + dc))))
                while side in left:
                    left.remove(side)
                    path.append(side[0] if side[1] == path[-1] else side[1])
                    if path[-1] not in ends:
                        side = next((s for s, _ in at[path[-1]] if s in left), side)
                if len(path) > 1:
                    for part, angle in _split(path, tolerance):
                        for one, other in itertools.pairwise(part):
                            angles[tuple(sorted((one, other)))] = angle
    assert set(angles) == set(sides)
    return angles, sides


def _weight(strength, orientation, pixel, angle):
    if strength.ndim == 3:
        position = angle * len(strength) / math.pi
        low = math.floor(position)
        values = strength[:, pixel[0], pixel[1]]
        one, other = values[low % len(strength)], values[(low + 1) % len(strength)]
        return one + (position - low) * (other - one)
    if np.isnan(orientation[pixel]):
        return strength[pixel]
    return strength[pixel] * abs(math.cos(angle - orientation[pixel]))


def _scene(seed, shape=(19, 23), n_orientations=None):
    """A smooth random strength, and a mask in some of them."""
    rng = np.random.default_rng(seed)
    size = shape if n_orientations is None else (n_orientations, *shape)
    strength = rng.random(size)
    mask = rng.random(shape) < 0.9 if seed % 2 else None
    return strength, mask


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_orientations", [None, 5, 8])
@pytest.mark.parametrize("tolerance", [0, 1, 2.5])
def test_weights_by_brute_force(seed, n_orientations, tolerance):
    strength, mask = _scene(seed, n_orientations=n_orientations)
    if seed >= 4:  # few large regions with long arcs, closed ones among them
        rows, columns = np.mgrid[: strength.shape[-2], : strength.shape[-1]]
        strength = 2 + np.sin(rows / 2.7 + seed) * np.cos(columns / 2.3) * (1 + strength / 99)
    orientation = None
    if strength.ndim == 2:
        orientation = np.random.default_rng(seed).uniform(-4, 4, strength.shape)
        orientation[::3, ::2] = np.nan
    arcs = oriented_watershed(strength, orientation=orientation, tolerance=tolerance, mask=mask)
    labels = arcs.graph.labels
    relief = strength if strength.ndim == 2 else strength.max(axis=0)
    expected = watershed(relief.astype(np.float32), relief="image", min_depth=0, mask=mask)
    np.testing.assert_array_equal(labels, expected)

    angles, sides = _angles(labels, tolerance)
    contours = np.zeros(arcs.contours.shape)
    total, length = {}, {}
    for side, pixels in sides.items():
        weight = max(_weight(strength, orientation, p, angles[side]) for p in pixels)
        (r0, c0), (r1, c1) = side
        contours[r0 + r1, c0 + c1] = weight
        pair = tuple(sorted(int(labels[p]) for p in pixels))
        total[pair] = total.get(pair, 0) + weight
        length[pair] = length.get(pair, 0) + 1
    np.testing.assert_allclose(arcs.contours, contours, atol=1e-5)
    pairs, entries = arcs.graph.edges()
    assert [tuple(p) for p in pairs.tolist()] == sorted(total)
    mean = [total[p] / length[p] for p in sorted(total)]
    np.testing.assert_allclose(arcs.strength[entries], mean, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 22.5, 45, 67.5, 90, 112.5, 135, 157.5])
def test_a_line_has_its_own_channel(degrees):
    rows, columns = np.mgrid[:61, :61] - 30
    angle = math.radians(degrees)
    # Directions are those that one sees: rows point down.
    away = np.abs(rows * math.cos(angle) + columns * math.sin(angle))
    ridge = np.maximum(0, 1 - away / 4)
    channel = round(degrees / 22.5)
    strength = np.zeros((8, 61, 61))
    strength[channel] = ridge
    strength[(channel + 4) % 8] = ridge / 2
    arcs = oriented_watershed(strength)
    assert arcs.graph.n_regions == 2
    assert arcs.strength[0] > 0.85
    one = oriented_watershed(ridge)
    assert one.strength[0] > 0.85
    off = oriented_watershed(ridge, orientation=np.full(ridge.shape, angle + math.pi / 2))
    assert off.strength[0] < 0.2
    found = contour_orientation(ridge)[20:41, 20:41][away[20:41, 20:41] < 1]
    assert np.abs(np.sin(found - angle)).max() < 0.1


def test_a_weak_contour_beside_a_strong_one_keeps_its_strength():
    strength = np.zeros((9, 20))
    strength[:, 8], strength[:, 11] = 5, 1
    np.testing.assert_allclose(oriented_watershed(strength).strength, [5, 5, 1, 1], rtol=1e-5)


def test_no_direction_where_all_is_flat():
    assert np.isnan(contour_orientation(np.ones((4, 5)))).all()
    assert contour_orientation(np.ones((1, 1))).shape == (1, 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (2, 2)])
def test_thin_images(shape):
    strength = np.random.default_rng(0).random(shape)
    arcs = oriented_watershed(strength)
    assert arcs.graph.labels.shape == shape
    # One row: each contour is a single side of a pixel, whose strength is that of a ridge.
    if 1 in shape and max(shape) > 1:
        flat = strength.ravel()
        peaks = np.flatnonzero((flat[1:-1] > flat[:-2]) & (flat[1:-1] > flat[2:])) + 1
        straight = oriented_watershed(strength, orientation=np.full(shape, np.nan))
        assert straight.graph.n_regions == len(peaks) + 1
        found = straight.contours[straight.contours > 0]
        np.testing.assert_allclose(found, flat[peaks], rtol=1e-6)


def test_one_basin_has_no_arcs():
    arcs = oriented_watershed(np.full((8, 9), 3.0))
    assert arcs.graph.n_regions == 1
    assert len(arcs.strength) == 0
    assert (arcs.contours == 0).all()
    assert len(arcs.hierarchy().levels) == 0


def test_any_number_of_threads():
    strength = np.random.default_rng(0).random((4, 300, 400))
    results = []
    for limit in (1, 2, 4):
        with thread_limit(limit):
            results.append(oriented_watershed(strength))
    for other in results[1:]:
        np.testing.assert_array_equal(other.contours, results[0].contours)
        np.testing.assert_array_equal(other.strength, results[0].strength)


@pytest.mark.parametrize(
    ("strength", "options", "words"),
    [
        ([1.0, 2.0], {}, r"strength has shape \(2,\), expected \(H, W\), or \(K, H, W\)"),
        (np.zeros((0, 3)), {}, r"strength has shape \(0, 3\)"),
        ([[1.0, np.nan]], {}, "strength holds NaN or inf"),
        ([[1.0, -2.0]], {}, "strength reaches down to -2, expected at least 0"),
        ([[1.0, 2.0]], {"tolerance": -1}, "tolerance is -1"),
        ([[1.0, 2.0]], {"mask": [[1, 0]]}, "mask is int64, expected bool"),
        ([[1.0, 2.0]], {"orientation": [0.0]}, r"orientation is float64 of shape \(1,\)"),
        ([[1.0, 2.0]], {"orientation": [[0.0, np.inf]]}, "orientation holds inf"),
        ([[[1.0, 2.0]]], {"orientation": [[0.0, 0.0]]}, "strength has 1 orientations already"),
    ],
)
def test_bad_arguments(strength, options, words):
    with pytest.raises((ValueError, TypeError), match="oriented_watershed: " + words):
        oriented_watershed(strength, **options)
    if not options and np.ndim(strength) == 2:
        with pytest.raises(ValueError, match="contour_orientation: " + words):
            contour_orientation(strength)
