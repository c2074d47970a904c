"""Points in the joint domain of space and colour, and the mean shift among them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segalgos.parallel import map_strips

__all__ = ["COLOR", "WEIGHT", "Window", "average", "find_modes", "make_points"]

TOLERANCE = 0.01  # a trajectory ends where its next step is shorter, in bandwidths
CUT = 3.0  # bandwidths at which the Gaussian ends
CUT_EXPONENT = np.float32(CUT**2 / 2)

STRIP = 8192  # points whose trajectories may end in one another

# Rows of an array of points. There are three colours at least, the rest being zero, since
# the kernel has these written out.
WEIGHT, Z, Y, X, COLOR = range(5)


class Window(NamedTuple):
    """The kernel, and the cells that points are sorted by.

    Parameters
    ----------
    cell : (3,) intp
        Size of a cell in pixels.
    gaussian : bool
    spatial_bandwidth, range_bandwidth : float
    longest : int
        Most points in a row of cells.
    """

    cell: NDArray[np.intp]
    gaussian: bool
    spatial_bandwidth: float
    range_bandwidth: float
    longest: int


# --- points ------------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _pool(image, mask, cell, radius, points, ends, point_of, first, last):
    """Pool the pixels of some rows of cells: those of like colour in a cell are one point.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    cell : (3,) intp
        Size of the cells in pixels.
    radius : float
        A pixel joins the first point of its cell whose first pixel is at most this far in
        colour. Below 0 each pixel is a point.
    points : (COLOR + n_colors, n) float32, overwritten
        Number, mean position and mean colour of each point's pixels, cell after cell.
    ends : (n_slabs, n_rows, n_columns) int64, overwritten in part
        Number of points up to the end of each cell.
    point_of : (D, H, W) int32, overwritten in part
        Each pixel's point, -1 outside the mask.
    first, last : int
        Range of rows of cells, counted over all slabs. Points are counted from `first` on.

    Returns
    -------
    int
        How many points there are.
    """
    depth, height, width, n_channels = image.shape
    n_rows, n_columns = ends.shape[1:]
    limit = radius * radius
    leaders = np.empty((cell[0] * cell[1] * cell[2], n_channels), np.float32)
    n_points = 0
    for row in range(first, last):
        z0, y0 = row // n_rows * cell[0], row % n_rows * cell[1]
        for column in range(n_columns):
            x0 = column * cell[2]
            n = 0
            for z in range(z0, min(z0 + cell[0], depth)):
                for y in range(y0, min(y0 + cell[1], height)):
                    for x in range(x0, min(x0 + cell[2], width)):
                        if not mask[z, y, x]:
                            point_of[z, y, x] = -1
                            continue
                        color = image[z, y, x]
                        k = 0 if radius >= 0 else n
                        while k < n:
                            distance = np.float32(0)
                            for c in range(n_channels):
                                distance += (color[c] - leaders[k, c]) ** 2
                            if distance <= limit:
                                break
                            k += 1
                        p = n_points + k
                        if k == n:
                            leaders[k] = color
                            points[:, p] = 0
                            n += 1
                        points[WEIGHT, p] += 1
                        points[Z, p] += z - z0
                        points[Y, p] += y - y0
                        points[X, p] += x - x0
                        for c in range(n_channels):
                            points[COLOR + c, p] += color[c]
                        point_of[z, y, x] = p
            for p in range(n_points, n_points + n):
                points[Z:, p] /= points[WEIGHT, p]
                points[Z, p] += z0
                points[Y, p] += y0
                points[X, p] += x0
            n_points += n
            ends[row // n_rows, row % n_rows, column] = n_points
    return n_points


def make_points(
    image: NDArray[np.float32], mask: NDArray[np.bool_], cell: NDArray[np.intp], radius: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]:
    """Sort the pixels of a mask into points.

    Parameters
    ----------
    image : (D, H, W, C) float32
    mask : (D, H, W) bool
    cell, radius
        As in `_pool`.

    Returns
    -------
    points : (COLOR + n_colors, n_points) float32
    starts : (n_slabs, n_rows, n_columns + 1) int64
        Where the points of each cell begin; those of a row of cells lie side by side.
    point_of : (D, H, W) int32
    """
    n_slabs, n_rows, n_columns = (-(-n // c) for n, c in zip(mask.shape, cell, strict=True))
    ends = np.empty((n_slabs, n_rows, n_columns), np.int64)
    point_of = np.empty(mask.shape, np.int32)
    row_size = int(cell[0] * cell[1]) * mask.shape[2]
    strip = max(1, 65536 // row_size)

    def pool(first, last):
        points = np.empty((COLOR + max(image.shape[-1], 3), (last - first) * row_size), np.float32)
        n = _pool(image, mask, cell, radius, points, ends, point_of, first, last)
        return points[:, :n].copy()

    parts = map_strips(pool, n_slabs * n_rows, strip)
    offsets = np.cumsum([0, *(part.shape[1] for part in parts)])
    flat_ends = ends.reshape(-1, n_columns)

    def shift(first, last):
        offset = offsets[first // strip]
        flat_ends[first:last] += offset
        for row in range(first, last):
            z, y = row // n_rows * cell[0], row % n_rows * cell[1]
            block = point_of[z : z + cell[0], y : y + cell[1]]
            np.add(block, offset, out=block, where=block >= 0, casting="unsafe")

    map_strips(shift, n_slabs * n_rows, strip)
    starts = np.empty((n_slabs, n_rows, n_columns + 1), np.int64)
    starts[..., 1:] = ends
    starts[..., 0] = np.concatenate([[0], flat_ends[:-1, -1]]).reshape(n_slabs, n_rows)
    return np.concatenate(parts, axis=1), starts, point_of


# --- kernels -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _exp_minus(t):
    """exp(-t) for t from 0 to CUT_EXPONENT, within 1e-5; unlike exp it becomes a vector."""
    s = t * np.float32(1 / 32)
    e = np.float32(1 / 6) - s * np.float32(1 / 24)
    e = np.float32(0.5) - s * e
    e = np.float32(1) - s * e
    e = np.float32(1) - s * e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@njit(nogil=True, cache=True)
def _factors(window):
    """What `_weigh` compares or multiplies squared distances in space and colour with."""
    space, color = window.spatial_bandwidth**2, window.range_bandwidth**2
    if window.gaussian:
        return np.float32(0.5 / space), np.float32(0.5 / color)
    return np.float32(space), np.float32(color)


@njit(nogil=True, cache=True)
def _find_runs(starts, window, z, y, x, runs):
    """List the runs of points that a window around a position may hold.

    Parameters
    ----------
    starts : (n_slabs, n_rows, n_columns + 1) int64
    window : Window
    z, y, x : float
    runs : (n_slabs * n_rows, 2) int64, overwritten in part
        First and one past the last point of each.

    Returns
    -------
    int
        How many runs.
    """
    n_slabs, n_rows, n_columns = starts.shape[0], starts.shape[1], starts.shape[2] - 1
    cz, cy, cx = window.cell
    reach = window.spatial_bandwidth * (CUT if window.gaussian else 1.0)
    n = 0
    slabs = max(int((z - reach) / cz), 0), min(int((z + reach) / cz), n_slabs - 1)
    rows = max(int((y - reach) / cy), 0), min(int((y + reach) / cy), n_rows - 1)
    for slab in range(slabs[0], slabs[1] + 1):
        dz = max(slab * cz - z, z - (slab * cz + cz - 1), 0.0)
        for row in range(rows[0], rows[1] + 1):
            dy = max(row * cy - y, y - (row * cy + cy - 1), 0.0)
            left = reach * reach - dz * dz - dy * dy
            if left >= 0:
                chord = np.sqrt(left) + 1e-3  # rounding may lose nothing
                begin = max(int((x - chord) / cx), 0)
                end = min(int((x + chord) / cx), n_columns - 1) + 1
                runs[n, 0], runs[n, 1] = starts[slab, row, begin], starts[slab, row, end]
                n += 1
    return n


@njit(nogil=True, cache=True, fastmath={"contract"})
def _weigh(points, begin, end, center, gaussian, space, color, weight):
    """Weigh a run of points by the kernel around `center`, in any number of channels.

    Parameters
    ----------
    points : (COLOR + n_colors, n_points) float32
    begin, end : int
    center : (COLOR + n_colors,) float32
    gaussian : bool
    space, color : float32
        From `_factors`.
    weight : (2, longest) float32
        Its first row is overwritten with the weights, its second is scratch.
    """
    near, far = weight[0, : end - begin], weight[1, : end - begin]
    near[:] = 0
    far[:] = 0
    for d in range(Z, points.shape[0]):
        values, value = points[d, begin:end], center[d]
        squared = near if d < COLOR else far
        for i in range(squared.shape[0]):
            squared[i] += (values[i] - value) ** 2
    number = points[WEIGHT, begin:end]
    for i in range(near.shape[0]):
        if gaussian:
            t = near[i] * space + far[i] * color
            near[i] = number[i] * _exp_minus(t) if t <= CUT_EXPONENT else np.float32(0)
        else:
            inside = (near[i] <= space) & (far[i] <= color)
            near[i] = number[i] if inside else np.float32(0)


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _add_run(points, begin, end, center, gaussian, space, color, sums):
    """Add up weights and weighted offsets from `center` of a run of points, in three channels.

    Parameters
    ----------
    points, begin, end, center, gaussian, space, color
        As in `_weigh`.
    sums : (COLOR + 3,) float32
        Added to.

    Notes
    -----
    One loop over slices, so that it becomes vectors: ten times as fast as `_weigh` and
    sums over the runs of ten to fifty points that are usual.
    """
    number = points[WEIGHT, begin:end]
    z, y, x = points[Z, begin:end], points[Y, begin:end], points[X, begin:end]
    a, b, c = points[COLOR, begin:end], points[COLOR + 1, begin:end], points[COLOR + 2, begin:end]
    z0, y0, x0 = center[Z], center[Y], center[X]
    a0, b0, c0 = center[COLOR], center[COLOR + 1], center[COLOR + 2]
    total = of_z = of_y = of_x = of_a = of_b = of_c = np.float32(0)
    for i in range(number.shape[0]):
        dz, dy, dx = z[i] - z0, y[i] - y0, x[i] - x0
        da, db, dc = a[i] - a0, b[i] - b0, c[i] - c0
        near = dz * dz + dy * dy + dx * dx
        far = da * da + db * db + dc * dc
        if gaussian:
            t = near * space + far * color
            weight = number[i] * _exp_minus(t) if t <= CUT_EXPONENT else np.float32(0)
        else:
            weight = number[i] if (near <= space) & (far <= color) else np.float32(0)
        total += weight
        of_z += weight * dz
        of_y += weight * dy
        of_x += weight * dx
        of_a += weight * da
        of_b += weight * db
        of_c += weight * dc
    sums[WEIGHT] += total
    sums[Z] += of_z
    sums[Y] += of_y
    sums[X] += of_x
    sums[COLOR] += of_a
    sums[COLOR + 1] += of_b
    sums[COLOR + 2] += of_c


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _add_weighted(values, weight, value):
    """Sum of the weighted offsets of some values from one."""
    total = np.float32(0)
    for i in range(values.shape[0]):
        total += weight[i] * (values[i] - value)
    return total


# --- mode seeking ------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _seek(points, starts, window, max_iter, catch, modes, origins, first, last):
    """Follow the mean shift from some points to their modes.

    Parameters
    ----------
    points : (COLOR + n_colors, n_points) float32
    starts : (n_slabs, n_rows, n_columns + 1) int64
    window : Window
    max_iter : int
    catch : float
        Points in a cell that a trajectory passes, at most this far from it in colour, end
        where it ends; where one of them has its mode, the trajectory ends there too. 0 to
        let each point go its own way.
    modes : (n_points, COLOR + n_colors) float32
        Overwritten from `first` to `last`, as `points`.
    origins : (n_points,) int64
        Overwritten likewise: the point whose own trajectory led to each mode.
    first, last : int
        Range of points. They catch one another in this order, and no others.
    """
    n_dims = points.shape[0]
    space, color = _factors(window)
    cell, gaussian = window.cell, window.gaussian
    center, sums = np.empty(n_dims, np.float32), np.empty(n_dims, np.float32)
    weight = np.empty((2, window.longest), np.float32)
    runs = np.empty((starts.shape[0] * starts.shape[1], 2), np.int64)
    unseen, caught, done = np.uint8(0), np.uint8(1), np.uint8(2)
    state = np.full(last - first, unseen)
    path = np.empty(last - first, np.int64)
    for origin in range(first, last):
        if state[origin - first] == done:
            continue
        center[:] = points[:, origin]
        state[origin - first] = caught
        path[0], n_path = origin, 1
        leader = origin
        for _ in range(max_iter):
            sums[:] = 0
            for r in range(_find_runs(starts, window, center[Z], center[Y], center[X], runs)):
                begin, end = runs[r]
                if n_dims == COLOR + 3:
                    _add_run(points, begin, end, center, gaussian, space, color, sums)
                else:
                    _weigh(points, begin, end, center, gaussian, space, color, weight)
                    near = weight[0, : end - begin]
                    sums[WEIGHT] += near.sum()
                    for d in range(Z, n_dims):
                        sums[d] += _add_weighted(points[d, begin:end], near, center[d])
            if sums[WEIGHT] == 0:
                break  # no point is both near enough and like enough: it stays
            in_space = in_color = 0.0
            for d in range(Z, n_dims):
                step = sums[d] / sums[WEIGHT]
                center[d] += step
                if d < COLOR:
                    in_space += step * step
                else:
                    in_color += step * step
            in_space /= window.spatial_bandwidth**2
            in_color /= window.range_bandwidth**2
            if in_space + in_color < TOLERANCE**2:
                break
            if catch > 0:
                slab, row = int(center[Z] / cell[0]), int(center[Y] / cell[1])
                column = int(center[X] / cell[2])
                begin, end = starts[slab, row, column], starts[slab, row, column + 1]
                ending = -1
                for p in range(max(begin, first), min(end, last)):
                    distance = 0.0
                    for d in range(COLOR, n_dims):
                        distance += (points[d, p] - center[d]) ** 2
                    if distance > catch * catch:
                        continue
                    if state[p - first] == done:
                        ending = p
                        break
                    if state[p - first] == unseen:
                        state[p - first] = caught
                        path[n_path] = p
                        n_path += 1
                if ending >= 0:
                    center[:] = modes[ending]
                    leader = origins[ending]
                    break
        for p in path[:n_path]:
            state[p - first] = done
            modes[p] = center
            origins[p] = leader


@njit(nogil=True, cache=True)
def _average(points, starts, window, modes, origins, values, averages, first, last):
    """Average values of points by the kernel around some modes.

    Parameters
    ----------
    points, starts, window, modes, origins
        As in `_seek`.
    values : (n_values, n_points) float32
    averages : (n_points, n_values) float32
        Overwritten from `first` to `last`.
    first, last : int
        Range of points.
    """
    space, color = _factors(window)
    weight = np.empty((2, window.longest), np.float32)
    runs = np.empty((starts.shape[0] * starts.shape[1], 2), np.int64)
    for p in range(first, last):
        if origins[p] != p:
            averages[p] = averages[origins[p]]  # that point comes before, in the same strip
            continue
        center = modes[p]
        total = np.float32(0)
        sums = averages[p]
        sums[:] = 0
        for r in range(_find_runs(starts, window, center[Z], center[Y], center[X], runs)):
            begin, end = runs[r]
            _weigh(points, begin, end, center, window.gaussian, space, color, weight)
            near = weight[0, : end - begin]
            total += near.sum()
            for v in range(values.shape[0]):
                # From the point's own value, so that a constant stays as it is.
                sums[v] += _add_weighted(values[v, begin:end], near, values[v, p])
        for v in range(values.shape[0]):
            sums[v] = values[v, p] + (sums[v] / total if total > 0 else np.float32(0))


def find_modes(
    points: NDArray[np.float32],
    starts: NDArray[np.int64],
    window: Window,
    max_iter: int,
    catch: float,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Follow the mean shift from every point to its mode.

    Parameters
    ----------
    points, starts
        As `make_points` gives them.
    window : Window
    max_iter : int
        Largest number of steps.
    catch : float
        As in `_seek`.

    Returns
    -------
    modes : (n_points, COLOR + n_colors) float32
        Where the trajectories ended; columns as the rows of `points`.
    origins : (n_points,) int64
        The point whose own trajectory led to each mode.
    """
    modes = np.empty(points.shape[::-1], np.float32)
    origins = np.empty(len(modes), np.int64)
    seek = partial(_seek, points, starts, window, max_iter, catch, modes, origins)
    map_strips(seek, len(modes), STRIP)
    return modes, origins


def average(
    points: NDArray[np.float32],
    starts: NDArray[np.int64],
    window: Window,
    modes: NDArray[np.float32],
    origins: NDArray[np.int64],
    values: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Average values of points by the kernel around every mode.

    Parameters
    ----------
    points, starts, window, modes, origins
        As `find_modes` takes and gives them.
    values : (n_values, n_points) float32

    Returns
    -------
    (n_points, n_values) float32
    """
    averages = np.empty(values.shape[::-1], np.float32)
    fill = partial(_average, points, starts, window, modes, origins, values, averages)
    map_strips(fill, len(modes), STRIP)
    return averages
