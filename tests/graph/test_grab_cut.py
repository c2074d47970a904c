"""GrabCut: its energy, its colour models and what it cuts out."""

import numpy as np
import pytest
from skimage import data

from segalgos.graph.color_models import learn_mixture, split_colors, standardise
from segalgos.graph.contrast import contrast_beta, contrast_weights
from segalgos.graph.grab_cut import COARSEST, grab_cut, iterate_cuts
from segalgos.graph.max_flow import half_neighborhood
from segalgos.parallel import thread_limit


def _disc(shape, radius=0.3):
    where = np.stack(np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij"))
    return (where**2).sum(axis=0) < radius**2


def _scene(shape=(40, 50), n_channels=3, seed=0, noise=12.0):
    """An object of two colours before a background of two, and its mask."""
    rng = np.random.default_rng(seed)
    truth = _disc(shape)
    stripes = np.arange(shape[-1]) // 4 % 2
    palette = np.array([[50], [100], [160], [210]]) + 15 * np.cos(np.arange(n_channels))
    image = palette[2 * truth + stripes] + rng.normal(0, noise, (*shape, n_channels))
    return np.clip(np.round(image), 0, 255).astype(np.uint8), truth


def _around(truth, margin=3):
    places = np.argwhere(truth)
    low = np.maximum(places.min(axis=0) - margin, 0)
    return [*low, *np.minimum(places.max(axis=0) + 1 + margin, truth.shape)]


def _known(shape, box):
    known = np.zeros(shape, np.int32)
    known[tuple(map(slice, box[: len(shape)], box[len(shape) :]))] = -1
    return known


# --- contrast ----------------------------------------------------------------------------


def _brute_contrast(image, offsets, mask, smoothness):
    """Planes of weights and beta, pair by pair."""
    shape = image.shape[:-1]
    squares, inside = {}, []
    for k, offset in enumerate(offsets):
        for pixel in np.ndindex(*shape):
            other = tuple(np.add(pixel, offset))
            if all(0 <= i < n for i, n in zip(other, shape, strict=True)):
                difference = image[pixel].astype(float) - image[other].astype(float)
                squares[k, pixel] = (difference**2).sum()
                if mask is None or (mask[pixel] and mask[other]):
                    inside.append(squares[k, pixel])
    mean = np.mean(inside) if inside else 0.0
    beta = 1 / (2 * mean) if mean > 0 else 0.0
    planes = np.zeros((len(offsets), *shape))
    for (k, pixel), square in squares.items():
        planes[(k, *pixel)] = smoothness * np.exp(-beta * square) / np.linalg.norm(offsets[k])
    return beta, planes


@pytest.mark.parametrize(
    ("shape", "neighbors"),
    [((7, 9, 3), 8), ((7, 9, 1), 4), ((1, 6, 2), 8), ((6, 1, 4), 8), ((3, 4, 5, 2), 6)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("masked", [False, True])
def test_contrast_equals_brute_force(shape, neighbors, dtype, masked):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, shape).astype(dtype)
    mask = rng.random(shape[:-1]) > 0.3 if masked else None
    offsets = half_neighborhood(len(shape) - 1, neighbors)
    beta, planes = _brute_contrast(image, offsets, mask, 7.0)
    assert contrast_beta(image, offsets, mask) == pytest.approx(beta, rel=1e-12)
    np.testing.assert_allclose(contrast_weights(image, offsets, beta, 7.0), planes, atol=2e-6)


def test_contrast_of_a_constant_image():
    offsets = half_neighborhood(2, 8)
    image = np.full((4, 5, 1), 9, np.uint8)
    assert contrast_beta(image, offsets, None) == 0
    planes = contrast_weights(image, offsets, 0.0, 50.0)
    assert planes[0, 0, 0] == 50
    assert planes[0, 0, 4] == 0
    assert planes[2, 0, 0] == np.float32(50 / np.sqrt(2))


# --- colour models -----------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
def test_mixture_equals_the_formula(n_channels):
    rng = np.random.default_rng(n_channels)
    values = rng.normal(size=(300, n_channels)).astype(np.float32)
    weights = rng.integers(0, 4, 300).astype(float)
    groups = rng.integers(0, 3, 300).astype(np.int32)
    costs, components = learn_mixture(values, weights, groups).explain(values)
    expected = np.empty((3, 300))
    unit = 1e-5 * np.eye(n_channels)
    for k in range(3):
        of = groups == k
        mean = np.average(values[of], axis=0, weights=weights[of])
        scatter = np.cov(values[of].T, aweights=weights[of], ddof=0).reshape(unit.shape)
        precision = np.linalg.inv(scatter + unit)
        apart = values - mean
        expected[k] = (
            -np.log(weights[of].sum() / weights.sum())
            + 0.5 * np.log(np.linalg.det(2 * np.pi * (scatter + unit)))
            + 0.5 * np.einsum("ic,cd,id->i", apart, precision, apart)
            + 0.5 * np.trace(precision @ unit)
        )
    np.testing.assert_array_equal(components, expected.argmin(axis=0))
    np.testing.assert_allclose(costs, expected.min(axis=0), rtol=1e-5, atol=1e-5)


def test_split_finds_well_apart_colors():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 400)
    values = (np.eye(4)[groups] * 5 + rng.normal(0, 0.1, (400, 4))).astype(np.float32)
    found = split_colors(values, np.ones(400), 4)
    pairs = set(zip(groups, found, strict=True))
    assert len(pairs) == 4
    assert len({b for _, b in pairs}) == 4


def test_split_of_few_colors():
    values = np.float32([[0, 0], [1, 1], [7, 7]])
    assert len(set(split_colors(values, np.ones(3), 5))) == 3
    np.testing.assert_array_equal(split_colors(values[:1], np.ones(1), 5), [0])
    np.testing.assert_array_equal(split_colors(values, np.array([0.0, 2, 0]), 5), [0, 0, 0])


def test_standardise():
    values = np.float32([[1, 5], [3, 5]]) * np.float32(1e30)
    np.testing.assert_allclose(standardise(values, np.array([3.0, 1.0]))[:, 1], 0)
    first = standardise(values, np.array([3.0, 1.0]))[:, 0]
    np.testing.assert_allclose(first, [-1 / np.sqrt(3), np.sqrt(3)], rtol=1e-6)


# --- iteration ---------------------------------------------------------------------------

OPTIONS = {"n_components": 3, "n_iter": 12, "smoothness": 50.0}


@pytest.mark.parametrize("seed", range(25))
def test_energy_never_rises(seed):
    rng = np.random.default_rng(seed)
    shape = (14, 17) if seed % 3 else (5, 8, 9)
    image, _ = _scene(shape, n_channels=1 + seed % 4, seed=seed, noise=40.0)
    known = _known(shape, [1] * len(shape) + [n - 1 for n in shape])
    known[rng.random(shape) < 0.02] = 1
    mask = rng.random(shape) > 0.1 if seed % 2 else None
    guess = rng.random(shape) > 0.5 if seed % 5 == 0 else None
    neighbors = 6 if len(shape) == 3 else (4, 8)[seed % 2]
    labels, energies = iterate_cuts(image, known, guess, mask, neighbors=neighbors, **OPTIONS)
    inside = np.ones(shape, bool) if mask is None else mask
    assert len(energies) >= 1
    assert (np.diff(energies) <= 1e-4 * np.abs(energies[0])).all(), energies
    assert (labels[~inside] == -1).all()
    sure = inside & (known >= 0)
    np.testing.assert_array_equal(labels[sure], known[sure])


def test_ends_where_a_cut_changes_nothing():
    image, truth = _scene()
    known = _known(truth.shape, _around(truth))
    labels, energies = iterate_cuts(
        image, known, None, None, neighbors=8, **{**OPTIONS, "n_iter": 50}
    )
    assert len(energies) < 50
    fewer, _ = iterate_cuts(
        image, known, None, None, neighbors=8, **{**OPTIONS, "n_iter": len(energies)}
    )
    np.testing.assert_array_equal(labels, fewer)


# --- what it cuts out --------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_finds_the_object(n_channels, dtype):
    image, truth = _scene(n_channels=n_channels)
    labels = grab_cut(image.astype(dtype), _around(truth), channel_axis=-1)
    assert labels.dtype == np.int32
    assert (labels != truth).mean() < 0.01


def test_volume():
    image, truth = _scene((10, 24, 26), n_channels=1)
    labels = grab_cut(image[..., 0], _around(truth, 2), channel_axis=None)
    assert (labels != truth).mean() < 0.02


def test_seeds_and_guess():
    image, truth = _scene()
    seeds = np.full(truth.shape, -1)
    seeds[0], seeds[20, 25] = 0, 1
    labels = grab_cut(image, _around(truth), seeds=seeds)
    assert labels[20, 25] == 1
    assert (labels[0] == 0).all()
    rough = _disc(truth.shape, 0.25)
    assert (grab_cut(image, guess=rough) != truth).mean() < 0.01
    seeds[20, 25] = 0  # a seed overrules the box
    assert grab_cut(image, _around(truth), seeds=seeds)[20, 25] == 0


def test_box_of_the_whole_image():
    image, truth = _scene()
    assert (grab_cut(image, [0, 0, *truth.shape]) != truth).mean() < 0.01
    np.testing.assert_array_equal(grab_cut(np.zeros((1, 1)), [0, 0, 1, 1]), [[1]])


def test_several_boxes():
    image, truth = _scene()
    both = np.concatenate([image, image], axis=1)
    box = _around(truth)
    boxes = np.array([box, np.add(box, [0, 50, 0, 50])])
    labels = grab_cut(both, boxes)
    assert (labels != np.concatenate([truth, truth], axis=1)).mean() < 0.01


def test_range_of_storage_does_not_matter():
    image, truth = _scene(noise=25.0)
    expected = grab_cut(image, _around(truth))
    scaled = [image.astype(np.float32), image / 255.0, image * np.float32(1e28), image + 1000.0]
    for stored in scaled:
        assert (grab_cut(stored, _around(truth)) != expected).mean() < 0.005


@pytest.mark.parametrize("value", [0, 7, -3e30, 1e-42])
def test_constant_image(value):
    labels = grab_cut(np.full((9, 12), value, np.float32), [2, 2, 7, 8])
    assert np.isin(labels, (0, 1)).all()
    assert (labels[:2] == 0).all()


def test_any_number_of_threads():
    image = data.coffee()  # of more pixels and colours than one strip holds
    box = [200, 240, 330, 420]
    with thread_limit(1):
        one = grab_cut(image, box, n_iter=2)
    assert (one == 1).any()
    for limit in (2, 4):
        with thread_limit(limit):
            np.testing.assert_array_equal(grab_cut(image, box, n_iter=2), one)


def test_outside_the_mask_has_no_influence():
    image, truth = _scene()
    mask = np.random.default_rng(0).random(truth.shape) > 0.2
    labels = grab_cut(image, _around(truth), mask=mask)
    other = np.where(mask[..., None], image, 255 - image)
    np.testing.assert_array_equal(grab_cut(other, _around(truth), mask=mask), labels)
    np.testing.assert_array_equal(labels == -1, ~mask)
    assert (labels != truth)[mask].mean() < 0.05


def test_pieces_of_the_mask():
    image, truth = _scene()
    mask = np.ones(truth.shape, bool)
    mask[:, 25] = False  # the object is cut in two
    labels = grab_cut(image, _around(truth), mask=mask)
    assert (labels != truth)[mask].mean() < 0.02


def test_large_images_are_cut_coarsely_first():
    image, truth = _scene((331, 402), noise=30.0)  # odd sizes
    box = _around(truth, 40)
    masks = [None, np.random.default_rng(0).random(truth.shape) > 0.2]
    masks.append(np.zeros(truth.shape, bool))
    masks[2][1::2] = True  # of this nothing is left on the coarse grid
    for mask in masks:
        labels = grab_cut(image, box, mask=mask)
        inside = np.ones(truth.shape, bool) if mask is None else mask
        assert (labels != truth)[inside].mean() < 0.01
        np.testing.assert_array_equal(labels == -1, ~inside)
    assert np.count_nonzero(_known(truth.shape, box)) > COARSEST * 4
    with thread_limit(1):
        np.testing.assert_array_equal(grab_cut(image, box, mask=mask), labels)


def test_agrees_with_opencv():
    cv2 = pytest.importorskip("cv2")
    image = data.astronaut()[:300:2, 40:400:2].copy()
    box = (3, 10, 150, 170)
    ours = grab_cut(image, box)
    theirs = np.zeros(image.shape[:2], np.uint8)
    cv2.setRNGSeed(0)
    as_cv = (box[1], box[0], box[3] - box[1], box[2] - box[0])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, theirs, as_cv, *models, 5, cv2.GC_INIT_WITH_RECT)
    assert (ours != (theirs & 1)).mean() < 0.05


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "grab_cut: nothing is known of the object"),
        ({"seeds": np.full((6, 7), -1)}, ValueError, "grab_cut: nothing is known"),
        ({"seeds": np.full((6, 7), 2)}, ValueError, "grab_cut: seeds holds ids up to 2"),
        ({"box": [0, 0, 9, 9]}, ValueError, "grab_cut: box.boxes reach outside"),
        ({"guess": np.ones((6, 7))}, TypeError, "grab_cut: guess is float64"),
        ({"box": [1, 1, 4, 4], "n_components": 0}, ValueError, "grab_cut: n_components is 0"),
        ({"box": [1, 1, 4, 4], "n_iter": 0}, ValueError, "grab_cut: n_iter is 0"),
        ({"box": [1, 1, 4, 4], "smoothness": -1}, ValueError, "grab_cut: smoothness is -1"),
        ({"box": [1, 1, 4, 4], "neighbors": 5}, ValueError, "grab_cut: neighbors is 5"),
        ({"box": [1, 1, 4, 4], "neighbors": 6}, ValueError, "grab_cut: neighbors is 6 for 2"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        grab_cut(np.zeros((6, 7)), **options)


def test_beats_the_box_on_photographs(data_root):
    folder = data_root / "GrabCut"
    if not folder.is_dir():
        pytest.skip("no GrabCut folder")
    from segalgos.files import read_image

    errors = []
    for name in ("227092.jpg", "86016.jpg"):
        truth = np.asarray(read_image(folder / "boundary_GT" / name.replace("jpg", "bmp")))
        truth = truth if truth.ndim == 2 else truth[..., 0]
        image = read_image(folder / "data_GT" / name)
        labels = grab_cut(image, _around(truth == 255, 20))
        errors.append((labels != (truth == 255))[truth != 128].mean())
    assert max(errors) < 0.02
