"""Kernels of `segalgos.rle`: runs are checked there before they come here."""

import numpy as np
from numba import njit

# Polygons are drawn on a grid this much finer.
FINER = 5


@njit(nogil=True, cache=True)
def check_runs(runs, n_pixels):
    total = 0
    for run in runs:
        if run < 0:
            return 4
        if run > n_pixels - total:
            return 5
        total += run
    return 0 if total == n_pixels else 5


@njit(nogil=True, cache=True)
def unpack(text):
    """Text to runs: 5 bits a character, the third run on as differences to two before."""
    runs = np.empty(len(text), np.int64)
    n = value = shift = 0
    for character in text:
        bits = np.int64(character) - 48
        if bits < 0 or bits > 63:
            return runs[:0], 1
        if shift > 50:
            return runs[:0], 3
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= np.int64(1) << shift
            runs[n] = value + (runs[n - 2] if n > 2 else 0)
            if abs(runs[n]) > 1 << 53:
                return runs[:0], 3
            n += 1
            value = shift = 0
    return (runs[:0], 2) if shift else (runs[:n], 0)


@njit(nogil=True, cache=True)
def unpack_all(text, ends, n_pixels):
    """Runs of all texts, and where each begins; no starts if one is damaged."""
    counts = np.empty(len(text), np.int64)
    starts = np.zeros(len(ends) + 1, np.int64)
    begin = 0
    for i in range(len(ends)):
        runs, error = unpack(text[begin : ends[i]])
        if error or check_runs(runs, n_pixels[i]):
            return counts, starts[:0]
        starts[i + 1] = starts[i] + len(runs)
        counts[starts[i] : starts[i + 1]] = runs
        begin = ends[i]
    return counts[: starts[-1]], starts


@njit(nogil=True, cache=True)
def draw_all(vertices, n_vertices, n_parts, shapes):
    """Runs of all objects, each the union of its polygons, and where each begins."""
    counts = np.empty(16 * len(shapes) + 16, np.int64)
    starts = np.zeros(len(shapes) + 1, np.int64)
    at = polygon = 0
    for i in range(len(shapes)):
        height, width = shapes[i]
        runs = np.full(1, height * width)
        for part in range(n_parts[i]):
            drawn = draw_polygon(vertices[at : at + n_vertices[polygon]], height, width)
            runs = drawn if part == 0 else merge_two(runs, drawn, False)
            at += n_vertices[polygon]
            polygon += 1
        starts[i + 1] = starts[i] + len(runs)
        if starts[i + 1] > len(counts):
            more = np.empty(2 * starts[i + 1], np.int64)
            more[: starts[i]] = counts[: starts[i]]
            counts = more
        counts[starts[i] : starts[i + 1]] = runs
    return counts[: starts[-1]].copy(), starts


@njit(nogil=True, cache=True)
def place_runs(part, part_starts, chosen, counts, starts):
    for k in range(len(chosen)):
        begin = starts[chosen[k]]
        for r in range(part_starts[k], part_starts[k + 1]):
            counts[begin] = part[r]
            begin += 1


@njit(nogil=True, cache=True)
def pack(runs):
    text = np.empty(13 * len(runs), np.uint8)
    n = 0
    for i in range(len(runs)):
        value = runs[i] - (runs[i - 2] if i > 2 else 0)
        while True:
            bits = value & 31
            value >>= 5
            done = value == (-1 if bits & 16 else 0)
            text[n] = 48 + (bits if done else bits | 32)
            n += 1
            if done:
                break
    return text[:n]


@njit(nogil=True, cache=True)
def runs_of(mask):
    height, width = mask.shape
    runs = np.empty(height * width + 1, np.int64)
    n = length = 0
    before = False
    for j in range(width):
        for i in range(height):
            if mask[i, j] != before:
                runs[n] = length
                n += 1
                length = 0
                before = not before
            length += 1
    runs[n] = length
    return runs[: n + 1].copy()


@njit(nogil=True, cache=True)
def draw(runs, mask):
    height = mask.shape[0]
    at = 0
    for r in range(len(runs)):
        if r % 2:
            for pixel in range(at, at + runs[r]):
                mask[pixel % height, pixel // height] = True
        at += runs[r]


@njit(nogil=True, cache=True)
def areas_of(counts, starts):
    found = np.zeros(len(starts) - 1, np.int64)
    for i in range(len(found)):
        for r in range(starts[i] + 1, starts[i + 1], 2):
            found[i] += counts[r]
    return found


@njit(nogil=True, cache=True)
def boxes_of(counts, starts, heights):
    """Boxes of masks whose images have `heights`; see `bounding_boxes`."""
    found = np.zeros((len(starts) - 1, 4), np.int64)
    for i in range(len(found)):
        height = heights[i]
        top, bottom, left, right = height, -1, -1, -1
        at = 0
        for r in range(starts[i], starts[i + 1]):
            length = counts[r]
            if (r - starts[i]) % 2 and length > 0:
                column, last_column = at // height, (at + length - 1) // height
                if left < 0:
                    left = column
                right = last_column
                if column == last_column:
                    top = min(top, at % height)
                    bottom = max(bottom, (at + length - 1) % height)
                else:  # it goes on at the top of the next column
                    top, bottom = 0, height - 1
            at += length
        if right >= 0:
            found[i] = top, left, bottom + 1, right + 1
    return found


@njit(nogil=True, cache=True)
def intersection(counts, start, stop, others, other_start, other_stop):
    """Pixels that two masks share."""
    total = 0
    i, j = start, other_start
    left, right = counts[i] if i < stop else 0, others[j] if j < other_stop else 0
    inside, other_inside = False, False
    while i < stop and j < other_stop:
        length = min(left, right)
        if inside and other_inside:
            total += length
        left -= length
        right -= length
        if left == 0:
            i += 1
            inside = not inside
            if i < stop:
                left = counts[i]
        if right == 0:
            j += 1
            other_inside = not other_inside
            if j < other_stop:
                right = others[j]
    return total


@njit(nogil=True, cache=True)
def mask_iou(masks, i, others, j, crowd):
    """IoU of mask i and other mask j; both as counts, starts, boxes and areas."""
    counts, starts, boxes, sizes = masks
    other_counts, other_starts, other_boxes, other_sizes = others
    if (
        boxes[i, 0] >= other_boxes[j, 2]
        or other_boxes[j, 0] >= boxes[i, 2]
        or boxes[i, 1] >= other_boxes[j, 3]
        or other_boxes[j, 1] >= boxes[i, 3]
    ):
        return 0.0
    both = intersection(
        counts, starts[i], starts[i + 1], other_counts, other_starts[j], other_starts[j + 1]
    )
    if both == 0:
        return 0.0
    return both / (sizes[i] if crowd else sizes[i] + other_sizes[j] - both)


@njit(nogil=True, cache=True)
def mask_ious(masks, others, crowd):
    found = np.empty((len(masks[3]), len(others[3])))
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            found[i, j] = mask_iou(masks, i, others, j, crowd[j])
    return found


@njit(nogil=True, cache=True)
def merge_two(runs, others, intersect):
    merged = np.empty(len(runs) + len(others) + 1, np.int64)
    n = length = 0
    before = False
    i = j = 0
    left, right = runs[0], others[0]
    inside = other_inside = False
    while i < len(runs) and j < len(others):
        step = min(left, right)
        now = (inside and other_inside) if intersect else (inside or other_inside)
        if step > 0:
            if now != before:
                merged[n] = length
                n += 1
                length = 0
                before = now
            length += step
        left -= step
        right -= step
        if left == 0:
            i += 1
            inside = not inside
            if i < len(runs):
                left = runs[i]
        if right == 0:
            j += 1
            other_inside = not other_inside
            if j < len(others):
                right = others[j]
    merged[n] = length
    return merged[: n + 1].copy()


@njit(nogil=True, cache=True)
def draw_polygon(vertices, height, width):
    """Where the outline crosses the middle of a column of pixels, the mask begins or ends."""
    n_vertices = len(vertices)
    fine = np.empty((n_vertices + 1, 2), np.int64)
    for i in range(n_vertices):
        for axis in range(2):
            fine[i, axis] = int(FINER * vertices[i, axis] + 0.5)  # cut towards 0
    fine[n_vertices] = fine[0]
    n_points = n_vertices
    for i in range(n_vertices):
        n_points += max(abs(fine[i + 1, 0] - fine[i, 0]), abs(fine[i + 1, 1] - fine[i, 1]))

    # The outline, from cell to cell of the fine grid.
    x, y = np.empty(n_points, np.int64), np.empty(n_points, np.int64)
    n = 0
    for i in range(n_vertices):
        x0, y0 = fine[i]
        x1, y1 = fine[i + 1]
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        flat = dx >= dy
        turned = x0 > x1 if flat else y0 > y1
        if turned:
            x0, x1, y0, y1 = x1, x0, y1, y0
        steps = dx if flat else dy
        slope = 0.0
        if steps:
            slope = (y1 - y0) / dx if flat else (x1 - x0) / dy
        for step in range(steps + 1):
            t = steps - step if turned else step
            if flat:
                x[n], y[n] = x0 + t, int(y0 + slope * t + 0.5)
            else:
                x[n], y[n] = int(x0 + slope * t + 0.5), y0 + t
            n += 1

    # Pixels, numbered down the columns, from which on inside and outside change.
    changes = np.empty(n + 1, np.int64)
    n_changes = 0
    for k in range(1, n):
        if x[k] == x[k - 1]:
            continue
        column = (min(x[k], x[k - 1]) + 0.5) / FINER - 0.5
        if column != np.floor(column) or column < 0 or column > width - 1:
            continue
        row = (min(y[k], y[k - 1]) + 0.5) / FINER - 0.5
        row = np.ceil(min(max(row, 0.0), float(height)))
        changes[n_changes] = int(column) * height + int(row)
        n_changes += 1
    changes[n_changes] = height * width
    changes = np.sort(changes[: n_changes + 1])

    runs = np.empty(len(changes), np.int64)
    n = at = 0
    k = 0
    while k < len(changes):
        length = changes[k] - at
        at = changes[k]
        k += 1
        if length > 0 or n == 0:
            runs[n] = length
            n += 1
        elif k < len(changes):  # two changes at one place are none: the run goes on
            runs[n - 1] += changes[k] - at
            at = changes[k]
            k += 1
    return runs[:n].copy()


@njit(nogil=True, cache=True)
def rims_of(counts, starts, boxes, heights, widths):
    """Runs of the rims of masks, `widths` pixels wide each, and where each begins.

    A pixel is of the rim if a pixel that is not of the mask, or beyond the image, is so many
    rows, columns or diagonal steps away at most.
    """
    found = np.empty(2 * len(counts) + 16, np.int64)
    rim_starts = np.zeros(len(starts), np.int64)
    for i in range(len(starts) - 1):
        runs = _rim_runs(counts[starts[i] : starts[i + 1]], boxes[i], heights[i], widths[i])
        begin, end = rim_starts[i], rim_starts[i] + len(runs)
        if end > len(found):
            more = np.empty(2 * end, np.int64)
            more[:begin] = found[:begin]
            found = more
        found[begin:end] = runs
        rim_starts[i + 1] = end
    return found[: rim_starts[-1]].copy(), rim_starts


@njit(nogil=True, cache=True)
def _rim_runs(runs, box, height, rim):
    """Runs of the rim of one mask; only its box is drawn, by columns as runs are."""
    top, left, bottom, right = box
    n_rows, n_columns = bottom - top, right - left
    if n_rows == 0 or min(n_rows, n_columns) <= 2 * rim:
        return runs.copy()  # nothing is deeper inside
    mask = np.zeros((n_columns, n_rows), np.bool_)
    at = 0
    for r in range(len(runs)):
        if r % 2:
            for pixel in range(at, at + runs[r]):
                mask[pixel // height - left, pixel % height - top] = True
        at += runs[r]

    # Deep inside: in the middle of 2 rim + 1 pixels of the mask, down the column and then along
    # the row, counted as far as they go on without a gap.
    span = 2 * rim + 1
    deep = np.zeros((n_columns, n_rows), np.bool_)
    for column in range(n_columns):
        without_gap = 0
        for row in range(n_rows):
            without_gap = without_gap + 1 if mask[column, row] else 0
            if without_gap >= span:
                deep[column, row - rim] = True
    without_gaps = np.zeros(n_rows, np.int64)
    for column in range(n_columns):
        for row in range(n_rows):
            without_gaps[row] = without_gaps[row] + 1 if deep[column, row] else 0
            if without_gaps[row] >= span:
                mask[column - rim, row] = False

    # A run goes on in the next column only where the box is as high as the image.
    n_places = n_rows if n_rows == height else n_rows + 1
    found = np.empty(2 * len(runs) + 16, np.int64)
    n = last = 0  # runs so far, and where the last one ended
    inside = False
    for column in range(n_columns):
        for row in range(n_places):
            now = mask[column, row] if row < n_rows else False
            if now != inside:
                if n + 2 > len(found):
                    more = np.empty(2 * len(found), np.int64)
                    more[:n] = found[:n]
                    found = more
                place = (left + column) * height + top + row
                found[n] = place - last
                n += 1
                last, inside = place, now
    for end in (right * height if inside else at, at):  # of the box, then of the image
        if end > last:
            found[n] = end - last
            n += 1
            last = end
    return found[:n].copy()
