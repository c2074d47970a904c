"""Graphs of pixels against brute force."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from segalgos import thread_limit
from segalgos.spectral.affinity import disc_offsets, pixel_graph, segment_places


def brute_force(offsets, mask, contours, rho, planes, sigma):
    """The matrix of all pixels, pair by pair; the line is walked in small steps."""
    n_rows, n_columns = mask.shape
    weights = np.zeros((mask.size, mask.size))
    for row, column in np.argwhere(mask):
        for down, right in offsets:
            below, beside = row + down, column + right
            if not (0 <= below < n_rows and 0 <= beside < n_columns and mask[below, beside]):
                continue
            exponent = 0.0
            if contours is not None:
                exponent += strongest(contours, (row, column), (down, right)) / rho
            if planes is not None:
                squared = ((planes[:, row, column] - planes[:, below, beside]) ** 2).sum()
                exponent += squared / sigma**2
            i, j = row * n_columns + column, below * n_columns + beside
            weights[i, j] = weights[j, i] = np.exp(-min(exponent, 30))
    return weights


def strongest(contours, start, step):
    """Largest contour on a segment, from the nearest pixels of places a step apart."""
    n = max(abs(step[0]), abs(step[1]))
    passed = [{start}]
    for k in range(1, n + 1):
        exact = start[0] + step[0] * k / n, start[1] + step[1] * k / n
        near = [
            {int(np.floor(x + 0.5)), int(np.ceil(x - 0.5))}
            if 2 * k == n
            else {round_to(x, s) if 2 * k < n else round_to(x, e)}
            for x, s, e in zip(exact, start, (start[0] + step[0], start[1] + step[1]), strict=True)
        ]
        passed.append({(i, j) for i in near[0] for j in near[1]})
    values = [contours[p] for places in passed for p in places]
    for before, after in pairwise(passed):
        if len(before) == len(after) == 1:
            (a, b), (c, d) = *before, *after
            if a != c and b != d:
                values.append(min(contours[a, d], contours[c, b]))
    return max(values)


def round_to(x, end):
    """Nearest integer, of two that one nearer to the end of the segment."""
    if abs(x - np.floor(x) - 0.5) < 1e-9:
        return int(np.floor(x)) if end < x else int(np.ceil(x))
    return int(np.rint(x))


@pytest.mark.parametrize("cues", ["contours", "colours", "both"])
def test_weights_equal_brute_force(cues):
    rng = np.random.default_rng(0)
    shape = 9, 11
    mask = rng.random(shape) < 0.85
    contours = rng.random(shape).astype(np.float32) * (rng.random(shape) < 0.3)
    planes = rng.normal(size=(2, *shape)).astype(np.float32)
    contours = None if cues == "colours" else contours
    planes = None if cues == "contours" else planes
    offsets = disc_offsets(4)
    graph = pixel_graph(offsets, mask, contours=contours, rho=0.2, planes=planes, sigma=1.5)
    expected = brute_force(offsets, mask, contours, 0.2, planes, 1.5)
    matrix = graph.to_sparse().toarray()
    np.testing.assert_allclose(matrix, expected, rtol=2e-4)
    degree = graph.degree()[4:-4, 4:-4].ravel()
    np.testing.assert_allclose(degree, expected.sum(axis=1), rtol=1e-5)


def test_segments_pass_the_same_both_ways():
    """From a pixel to its neighbour and back; and in the mirror."""
    for down, right in disc_offsets(9).tolist():
        places = segment_places(down, right)
        pixels = {tuple(p) for p in places[places[:, 0] == 0, 1:].tolist()}
        assert pixels == {(down - i, right - j) for i, j in pixels}
        if down:
            mirrored = segment_places(down, -right)
            assert pixels == {(i, -j) for plane, i, j in mirrored.tolist() if plane == 0}


def test_a_diagonal_contour_has_no_gaps():
    contours = np.eye(12, dtype=np.float32)
    graph = pixel_graph(disc_offsets(5), np.ones((12, 12), bool), contours=contours)
    matrix = graph.to_sparse().toarray()
    side = np.subtract.outer(np.arange(12), np.arange(12)).ravel()
    assert matrix[np.ix_(side < 0, side > 0)].max() < 1e-4
    assert matrix[np.ix_(side < -3, side < -3)].max() == 1


def test_disc_holds_one_of_each_pair():
    offsets = disc_offsets(5)
    assert len(offsets) == 40
    both = {tuple(o) for o in np.concatenate([offsets, -offsets]).tolist()}
    assert len(both) == 80
    assert max(i * i + j * j for i, j in both) == 25


def test_sampled_disc_keeps_the_near_and_reaches_far():
    offsets, whole = disc_offsets(30, sampled=True), disc_offsets(30)
    far = (offsets**2).sum(axis=1) > 25
    assert np.count_nonzero(~far) == 40
    assert len(offsets) < len(whole) / 10
    assert np.sqrt((offsets**2).sum(axis=1).max()) > 24
    kept, every = {tuple(o) for o in offsets.tolist()}, {tuple(o) for o in whole.tolist()}
    assert kept < every


def test_lone_pixels_are_tied_to_themselves():
    mask = np.zeros((20, 20), bool)
    mask[3, 3] = mask[12:16, 12] = True
    graph = pixel_graph(disc_offsets(3), mask, planes=np.zeros((1, 20, 20), np.float32))
    matrix = graph.to_sparse().toarray()
    assert matrix[63, 63] == 1
    assert np.trace(matrix) == 1
    assert (graph.degree()[3:-3, 3:-3] > 0).sum() == 5


def test_any_number_of_threads_gives_the_same_weights():
    planes = np.random.default_rng(1).normal(size=(3, 70, 33)).astype(np.float32)
    found = []
    for n in (1, 3):
        with thread_limit(n):
            graph = pixel_graph(disc_offsets(5), np.ones((70, 33), bool), planes=planes)
            found.append(graph.padded)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((2, 9), (3, 12)), ((0, 1), (4, 14)), ((3, 11), (5, 6)), ((0, 11), (0, 14))],
)
def test_a_window_has_the_ties_among_its_pixels(rows, columns):
    rng = np.random.default_rng(5)
    planes = rng.random((3, 11, 14), np.float32)
    graph = pixel_graph(disc_offsets(3), np.ones((11, 14), bool), planes=planes, sigma=0.5)
    graph = dataclasses.replace(graph, diagonal=graph.degree())
    window = graph.window(slice(*rows), slice(*columns))
    chosen = np.arange(11 * 14).reshape(11, 14)[slice(*rows), slice(*columns)].ravel()
    expected = graph.to_sparse().toarray()[np.ix_(chosen, chosen)]
    np.testing.assert_array_equal(window.to_sparse().toarray(), expected)
    inside = window.degree()[window.rim :, window.rim :][: window.shape[0], : window.shape[1]]
    np.testing.assert_allclose(inside.ravel(), expected.sum(axis=1), rtol=1e-6)
