"""Votes of structured trees: each answers with a small label map, fitted to the image or not."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.contours._edge_channels import CELL, N_CHANNELS, PADDING, Channels
from segalgos.contours._structured_patches import LABEL, PATCH, feature_places
from segalgos.parallel import map_strips

__all__ = ["Answers", "count_votes", "join_questions", "split_questions"]

# Of the label patch's first row and column, in pixels from those of the patch.
TO_LABEL = PADDING - LABEL // 2
WIDE, NO_LABEL = LABEL + 2, 255
MOST_ROUNDS = 2  # of fitting; round r changes pixels up to r away from a contour
ROWS_A_STRIP = 16
PATCHES = 4096  # of a strip, while they are laid out
BIAS = 256  # of thresholds in questions, to be positive


# --- nodes and leaves --------------------------------------------------------------------


def join_questions(features: NDArray, thresholds: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Write a feature and its threshold as one number, half the memory to walk through.

    Parameters
    ----------
    features : (n,) integer ndarray
        Rows of `feature_places`.
    thresholds : (n,) uint8
        Of features as `take_patches` gives them, whose differences are halved.

    Returns
    -------
    (n,) int32
        ``(threshold + BIAS) << 16 | feature``, of the whole difference.
    """
    limits = thresholds.astype(np.int32)
    # (change + 256) >> 1 is at most t where the change is at most 2 t - 255.
    limits = np.where(_is_change(features), 2 * limits - 255, limits)
    return (limits + BIAS) << 16 | features


def split_questions(questions: NDArray[np.int32]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Read what `join_questions` wrote.

    Parameters
    ----------
    questions : (n,) int32

    Returns
    -------
    features : (n,) uint16
    thresholds : (n,) uint8
    """
    features, limits = questions & 0xFFFF, (questions >> 16) - BIAS
    thresholds = np.where(_is_change(features), (limits + 255) // 2, limits)
    return features.astype(np.uint16), thresholds.astype(np.uint8)


def _is_change(features: NDArray) -> NDArray[np.bool_]:
    return feature_places()[features, 1] >= 0


class Answers:
    """Label patches of leaves, laid out for voting.

    Parameters
    ----------
    patches : (n, LABEL * LABEL) uint8
        Labels of each, below NO_LABEL.

    Attributes
    ----------
    wide : (n, WIDE * WIDE) uint8
        The patches with NO_LABEL around.
    edges : (n, WIDE * WIDE) uint8
        1 where they touch another label.
    near : (n_near,) uint16
        For each patch, the pixels of `wide` near its contours, the nearest first.
    ends : (n + 1, MOST_ROUNDS + 1) int32
        Where in `near` those of patch i that are nearer than 1, 2 ... end, in row i + 1. The first
        begins where the last of row i ends.
    runs : (n_runs, 4) uint8
        Row, first column, last column and label of runs of pixels.
    run_ends : (n + 1,) int32
        Where in `runs` those of patch i end, in element i + 1.
    """

    def __init__(self, patches: NDArray[np.uint8]):
        n = len(patches)
        self.wide, self.edges, steps = np.empty((3, n, WIDE * WIDE), np.uint8)
        counts = np.empty((n, MOST_ROUNDS + 2), np.int32)
        measured = patches, self.wide, self.edges, steps, counts
        map_strips(lambda start, stop: _measure_patches(*measured, start, stop), n, PATCHES)
        n_near, n_runs = counts[:, :-1], counts[:, -1]
        self.ends = np.zeros((n + 1, MOST_ROUNDS + 1), np.int32)
        self.ends[1:] = (np.cumsum(n_near[:, -1]) - n_near[:, -1])[:, None] + n_near
        self.run_ends = np.append(0, np.cumsum(n_runs)).astype(np.int32)
        self.near = np.empty(self.ends[-1, -1], np.uint16)
        self.runs = np.empty((self.run_ends[-1], 4), np.uint8)
        listed = patches, steps, self.ends, self.run_ends, self.near, self.runs
        map_strips(lambda start, stop: _list_pixels(*listed, start, stop), n, PATCHES)


@njit(nogil=True, cache=True)
def _measure_patches(patches, wide, edges, steps, counts, start, stop):
    """Lay out patches, and count what is listed of them.

    Parameters
    ----------
    patches : (n, LABEL * LABEL) uint8
    wide, edges : (n, WIDE * WIDE) uint8, overwritten
        As in `Answers`.
    steps : (n, WIDE * WIDE) uint8, overwritten
        Steps from a pixel to the nearest contour; MOST_ROUNDS + 1 for more, and around the patch.
    counts : (n, MOST_ROUNDS + 2) int32, overwritten
        Pixels at most 0, 1 ... steps away, then runs.
    start, stop : int
        Range of patches.
    """
    for k in range(start, stop):
        wide[k] = NO_LABEL
        edges[k] = 0
        steps[k] = MOST_ROUNDS + 1
        counts[k] = 0
        for y in range(LABEL):
            for x in range(LABEL):
                label = patches[k, y * LABEL + x]
                wide[k, (y + 1) * WIDE + x + 1] = label
                if x == 0 or label != patches[k, y * LABEL + x - 1]:
                    counts[k, MOST_ROUNDS + 1] += 1
        _find_edges(wide[k], edges[k])
        for level in range(MOST_ROUNDS + 1):
            for y in range(1, LABEL + 1):
                for at in range(y * WIDE + 1, y * WIDE + LABEL + 1):
                    if level == 0:
                        reached = edges[k, at] == 1
                    else:
                        nearest = min(steps[k, at - WIDE], steps[k, at + WIDE])
                        nearest = min(nearest, steps[k, at - 1], steps[k, at + 1])
                        reached = nearest == level - 1
                    if reached and steps[k, at] > level:
                        steps[k, at] = level
                    if steps[k, at] <= level:
                        counts[k, level] += 1


@njit(nogil=True, cache=True)
def _list_pixels(patches, steps, ends, run_ends, near, runs, start, stop):
    """List the pixels near the contours of patches, and their runs.

    Parameters
    ----------
    patches, steps : as in `_measure_patches`
    ends, run_ends : as in `Answers`
    near, runs : as in `Answers`, overwritten
    start, stop : int
        Range of patches.
    """
    for k in range(start, stop):
        place = ends[k, MOST_ROUNDS]
        for level in range(MOST_ROUNDS + 1):
            for at in range(WIDE * WIDE):
                if steps[k, at] == level:
                    near[place] = at
                    place += 1
        place = run_ends[k]
        for y in range(LABEL):
            first = 0
            for x in range(1, LABEL + 1):
                label = patches[k, y * LABEL + first]
                if x == LABEL or patches[k, y * LABEL + x] != label:
                    runs[place, 0], runs[place, 1], runs[place, 2] = y, first, x - 1
                    runs[place, 3] = label
                    place += 1
                    first = x


@njit(nogil=True, cache=True)
def _find_leaves(both, is_there, root, nodes, steps, bases, open_, leaves):
    """Walk from a root to a leaf from many places at a time, a step each in turn.

    So the processor waits for the memory of several at once. Indices are unsigned, since one
    that could be negative would be looked at for that.

    Parameters
    ----------
    both : (2 * h * w * N_CHANNELS,) uint8
        The fine channels, then the coarse ones.
    is_there : int
        Where the coarse ones begin.
    root : int
    nodes : (n_nodes, 2) int32
        As in `count_votes`.
    steps : (n_features, 2) int32
        From the first value of a patch to the two of each feature, -1 for none.
    bases : (m,) int32
        The first value of each patch.
    open_ : (m,) uint32, overwritten
    leaves : (m,) int32, overwritten
        The patch that each leaf answers with.
    """
    n_open = np.uint32(bases.shape[0])
    for k in range(n_open):
        open_[k] = k
        leaves[k] = root
    while n_open:
        n_left = np.uint32(0)
        for k in range(n_open):
            one = open_[k]
            node = np.uint32(leaves[one])
            question, child = nodes[node, 0], nodes[node, 1]
            feature = np.uint32(question & 0xFFFF)
            other = steps[feature, 1]
            # All ones if the feature is a difference, of coarse channels; no branch to guess.
            is_change = ~(other >> 31)
            at = bases[one] + steps[feature, 0] + (is_there & is_change)
            to = (bases[one] + other + is_there) & is_change
            value = np.int32(both[np.uint32(at)])
            value -= np.int32(both[np.uint32(to)]) & is_change
            is_leaf = child < 0
            leaves[one] = ~child if is_leaf else child + (value > (question >> 16) - BIAS)
            open_[n_left] = one
            n_left += np.uint32(not is_leaf)
        n_open = n_left


# --- votes -------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _average_colours(runs, lines, top, left, means, counts):
    """Average the colours below each label of a patch.

    Parameters
    ----------
    runs : (n_runs, 4) uint8
        Those of the patch.
    lines : (H, W + 1, 4) float32
        Sums of the colours of a row before each pixel, and 0.
    top, left : int
        The patch's first pixel.
    means : (NO_LABEL, 4) float32, overwritten in part
    counts : (NO_LABEL,) int32
        Zeros, and left so.
    """
    for r in range(runs.shape[0]):
        label = runs[r, 3]
        for c in range(4):
            means[label, c] = 0
    for r in range(runs.shape[0]):
        label, y = runs[r, 3], top + runs[r, 0]
        begin, end = left + runs[r, 1], left + runs[r, 2] + 1
        counts[label] += end - begin
        for c in range(4):
            means[label, c] += lines[y, end, c] - lines[y, begin, c]
    for r in range(runs.shape[0]):
        label = runs[r, 3]
        if counts[label]:
            share = np.float32(1) / np.float32(counts[label])
            for c in range(4):
                means[label, c] *= share
            counts[label] = 0


@njit(nogil=True, cache=True)
def _distance(lab, y, x, means, label):
    total = np.float32(0)
    for c in range(3):
        total += (lab[y, x, c] - means[label, c]) ** 2
    return total


@njit(nogil=True, cache=True)
def _fit_to_colours(labels, near, lab, top, left, means, spare):
    """Give pixels the label above, below, beside or their own whose mean colour suits best.

    Parameters
    ----------
    labels : (WIDE * WIDE,) uint8, overwritten in part
    near : (n,) uint16
        The pixels.
    lab : (H, W, 3) float32
    top, left : int
        The patch's first pixel in `lab`.
    means : (NO_LABEL, 4) float32
    spare : (WIDE * WIDE,) uint8, overwritten in part
    """
    for at in near:
        own = labels[at]
        best_label = own
        best = np.float32(-1)
        for step in (-WIDE, -1, 1, WIDE):
            other = labels[np.uint32(at + step)]
            if other != own and other != best_label and other != NO_LABEL:
                y, x = top + at // WIDE - 1, left + at % WIDE - 1
                if best < 0:
                    best = _distance(lab, y, x, means, own)
                distance = _distance(lab, y, x, means, other)
                if distance < best:
                    best, best_label = distance, other
        spare[at] = best_label
    for at in near:
        labels[at] = spare[at]


@njit(nogil=True, cache=True)
def _find_edges(labels, edges):
    """Mark pixels of a patch that touch another label.

    Parameters
    ----------
    labels : (WIDE * WIDE,) uint8
    edges : (WIDE * WIDE,) uint8, overwritten but for the border
    """
    for k in range(WIDE, WIDE * (WIDE - 1)):
        own = labels[k]
        above, before = labels[k - WIDE], labels[k - 1]
        below, after = labels[k + WIDE], labels[k + 1]
        edges[k] = (
            ((above != own) & (above != NO_LABEL))
            | ((below != own) & (below != NO_LABEL))
            | ((before != own) & (before != NO_LABEL))
            | ((after != own) & (after != NO_LABEL))
        )


@njit(nogil=True, cache=True)
def _count(
    both, width, lab, lines, nodes, roots, steps, n_evaluated, n_rounds, answers, votes, first, last
):
    """Count the votes of patches whose first row is one from `first` to `last`.

    Parameters
    ----------
    both : (2 * h * width * N_CHANNELS,) uint8
        As in `_find_leaves`.
    width : int
        Cells of a row.
    lab : (H, W, 3) float32
    lines : (H, W + 1, 4) float32
        As in `_average_colours`.
    nodes, roots, n_evaluated, n_rounds : as in `count_votes`
    steps : as in `_find_leaves`
    answers : tuple of ndarray
        `wide`, `edges`, `near`, `ends`, `runs` and `run_ends` of `Answers`.
    votes : (CELL * (last - first - 1) + LABEL, W) uint16, added to
        From the first row of the first label patch.
    """
    wide, all_edges, near, ends, runs, run_ends = answers
    stride = width * N_CHANNELS
    n_columns, n_trees = width - PATCH + 1, roots.shape[0]
    means, counts = np.zeros((NO_LABEL, 4), np.float32), np.zeros(NO_LABEL, np.int32)
    labels, spare = np.empty(WIDE * WIDE, np.uint8), np.empty(WIDE * WIDE, np.uint8)
    edges = np.zeros(WIDE * WIDE, np.uint8)
    bases, open_ = np.empty(n_columns, np.int32), np.empty(n_columns, np.uint32)
    leaves = np.empty((n_trees, n_columns), np.int32)
    for i in range(first, last):
        for tree in range(n_trees):
            n_places = 0
            for j in range(n_columns):  # where it is asked
                if (tree - (i + j) * n_evaluated) % n_trees < n_evaluated:
                    bases[n_places] = i * stride + j * N_CHANNELS
                    n_places += 1
            here = leaves[tree, :n_places]
            places = bases[:n_places]
            _find_leaves(both, both.shape[0] // 2, roots[tree], nodes, steps, places, open_, here)
            top, row = i * CELL + TO_LABEL, (i - first) * CELL
            for k in range(n_places):
                patch = here[k]
                begin = ends[patch, MOST_ROUNDS]
                if ends[patch + 1, 0] == begin:
                    continue  # no contour
                left = (places[k] - i * stride) // N_CHANNELS * CELL + TO_LABEL
                drawn = all_edges[patch]
                if n_rounds:
                    own_runs = runs[run_ends[patch] : run_ends[patch + 1]]
                    _average_colours(own_runs, lines, top, left, means, counts)
                    labels[:] = wide[patch]
                    for level in range(n_rounds):
                        reached = near[begin : ends[patch + 1, level]]
                        _fit_to_colours(labels, reached, lab, top, left, means, spare)
                    _find_edges(labels, edges)
                    drawn = edges
                for y in range(LABEL):
                    line = votes[row + y, left : left + LABEL]
                    source = drawn[(y + 1) * WIDE + 1 : (y + 1) * WIDE + 1 + LABEL]
                    for x in range(LABEL):
                        line[x] += source[x]


def count_votes(
    channels: Channels,
    nodes: NDArray[np.int32],
    roots: NDArray[np.int32],
    n_evaluated: int,
    n_rounds: int,
    answers: Answers,
) -> NDArray[np.float32]:
    """Let trees vote for contours.

    Parameters
    ----------
    channels : Channels
    nodes : (n_nodes, 2) int32
        What each asks, see `join_questions`, and its left child, which the right one follows; in
        a leaf, any question and the complement of its patch.
    roots : (n_trees,) int32
    n_evaluated : int
        Trees asked at each cell; neighbours ask others.
    n_rounds : int
        Rounds in which patches are fitted to the image, at most MOST_ROUNDS.
    answers : Answers

    Returns
    -------
    (h * CELL - 2 * PADDING, w * CELL - 2 * PADDING) float32
        Part of the patches over a pixel that have a contour there.
    """
    height, width = channels.lab.shape[:2]
    places = feature_places()
    stride = channels.fine.shape[1] * N_CHANNELS
    steps = np.where(places < 0, -1, (places >> 16) * stride + (places & 0xFFFF)).astype(np.int32)
    lines = np.zeros((height, width + 1, 4), np.float32)
    np.cumsum(channels.lab, axis=1, out=lines[:, 1:, :3])
    both = np.concatenate([channels.fine.ravel(), channels.coarse.ravel()])
    laid_out = (
        answers.wide,
        answers.edges,
        answers.near,
        answers.ends,
        answers.runs,
        answers.run_ends,
    )

    def one_strip(first: int, last: int) -> NDArray[np.uint16]:
        votes = np.zeros((CELL * (last - first - 1) + LABEL, width), np.uint16)
        _count(
            both,
            channels.fine.shape[1],
            channels.lab,
            lines,
            nodes,
            roots,
            steps,
            n_evaluated,
            n_rounds,
            laid_out,
            votes,
            first,
            last,
        )
        return votes

    total = np.zeros((height, width), np.float32)
    n_rows = len(channels.fine) - PATCH + 1
    for k, votes in enumerate(map_strips(one_strip, n_rows, ROWS_A_STRIP)):
        begin = CELL * k * ROWS_A_STRIP + TO_LABEL
        total[begin : begin + len(votes)] += votes
    inner = total[PADDING : height - PADDING, PADDING : width - PADDING]
    return inner / np.float32((LABEL // CELL) ** 2 * n_evaluated)
