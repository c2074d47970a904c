"""What counts as an image, a label map, a mask, a weight, prompts and a parameter."""

from pathlib import Path

import numpy as np
import pytest

from segalgos.checks import (
    check_choice,
    check_image,
    check_instances,
    check_int,
    check_label_map,
    check_mask,
    check_prompts,
    check_real,
    check_weight,
    is_batch,
)
from segalgos.results import Instances, Prompts

# --- parameters --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_check_int(value):
    result = check_int("A", "n", value, low=3, high=3)
    assert (result, type(result)) == (3, int)


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.bool_(True), [3], object()])
def test_check_int_refuses_other_types(value):
    with pytest.raises(TypeError, match=r"A: n is .* expected an integer of at least 1\."):
        check_int("A", "n", value, low=1)


def test_check_int_bounds():
    with pytest.raises(ValueError, match=r"A: n is 0, expected .*of at least 1"):
        check_int("A", "n", 0, low=1)
    with pytest.raises(ValueError, match=r"A: n is 9, expected .*from 1 to 8"):
        check_int("A", "n", 9, low=1, high=8)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)])
def test_check_real(value):
    result = check_real("A", "x", value, low=2, high=2)
    assert (result, type(result)) == (2.0, float)


@pytest.mark.parametrize("value", ["2", None, False, 2j, np.ones(1), object()])
def test_check_real_refuses_other_types(value):
    with pytest.raises(TypeError, match=r"A: x is .* expected a number above 0"):
        check_real("A", "x", value, above=0)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, -np.inf, 5.1])
def test_check_real_bounds(value):
    with pytest.raises(ValueError, match=r"A: x is .* above 0 and at most 5"):
        check_real("A", "x", value, above=0, high=5)


def test_check_choice():
    assert check_choice("A", "mode", "fast", ("fast", "exact")) == "fast"
    for value in ("fas", None, 1, ["fast"]):
        with pytest.raises(ValueError, match=r"A: mode is .* expected one of 'fast', 'exact'"):
            check_choice("A", "mode", value, ("fast", "exact"))


# --- one or many -------------------------------------------------------------------------


class Lazy:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise AssertionError("read too early")


def _objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.ones((4, 4)), False),
        ([[1, 2], [3, 4]], False),
        ([[[1, 2, 3]], [[3, 4, 5]]], False),
        ([np.float32(1), np.float32(2)], False),
        (np.array([[1, 2]], object), False),
        ([np.ones((4, 4))], True),
        ((np.ones((4, 4)), np.ones((5, 5))), True),
        (_objects(np.ones((4, 4)), np.ones((5, 5))), True),
        (Lazy(), True),
    ],
)
def test_is_batch(images, expected):
    assert is_batch(images) is expected


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ("a.png", TypeError, "is the path 'a.png'.*read_image"),
        (Path("a.png"), TypeError, "is the path 'a.png'.*read_image"),
        (b"a.png", TypeError, "is the path"),
        (["a.png"], TypeError, r"images\[0\] is the path 'a.png'"),
        ([Path("a.png")], TypeError, r"images\[0\] is the path 'a.png'"),
        (iter([np.ones((4, 4))]), TypeError, "wrap an iterator in list"),
        ({"a": np.ones((4, 4))}, TypeError, "images is a dict"),
        (None, TypeError, "images is a NoneType"),
        (3, TypeError, "images is a int"),
        ([], ValueError, "images is empty"),
        ((), ValueError, "images is empty"),
    ],
)
def test_is_batch_refuses(images, error, words):
    with pytest.raises(error, match=f"^A: .*{words}"):
        is_batch(images, "A")


# --- images ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "ndims", "expected"),
    [
        ((5, 6), "auto", (2,), (5, 6, 1)),
        ((5, 6, 1), "auto", (2,), (5, 6, 1)),
        ((5, 6, 4), "auto", (2,), (5, 6, 4)),
        ((5, 6), None, (2,), (5, 6, 1)),
        ((5, 6, 9), -1, (2,), (5, 6, 9)),
        ((9, 5, 6), 0, (2,), (5, 6, 9)),
        ((5, 9, 6), 1, (2,), (5, 6, 9)),
        ((4, 5, 6), None, (2, 3), (4, 5, 6, 1)),
        ((4, 5, 6, 2), -1, (3,), (4, 5, 6, 2)),
        ((2, 4, 5, 6), 0, (2, 3), (4, 5, 6, 2)),
    ],
)
def test_layout(shape, axis, ndims, expected):
    image = np.arange(np.prod(shape)).reshape(shape)
    clean = check_image(image, "A", channel_axis=axis, ndims=ndims)
    assert clean.shape == expected
    assert clean.dtype == np.float32
    assert clean.flags.c_contiguous
    back = clean[..., 0] if axis is None or len(shape) == 2 else clean
    if isinstance(axis, int):
        back = np.moveaxis(clean, -1, axis)
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    ("shape", "axis", "words"),
    [
        ((5, 20, 20), "auto", r"a volume or 20 channels\? Pass channel_axis=None.*channel_axis=-1"),
        ((5, 6, 5), "auto", r"\(5, 6, 5\): a volume or 5 channels"),
        ((5,), "auto", r"has shape \(5,\), expected \(H, W\)"),
        ((), "auto", r"has shape \(\)"),
        ((2, 5, 6, 3), "auto", "or a list for several images"),
        ((5, 6), "channels", "channel_axis is 'channels', expected \"auto\""),
        ((5, 6), 2, "channel_axis is 2, but x has shape"),
        ((5, 6, 3), -4, "channel_axis is -4"),
        ((4, 5, 6), None, r"3 spatial axes, expected \(H, W\)"),
        ((5, 6), -1, r"1 spatial axes, expected \(H, W\)"),
        ((0, 6), "auto", r"\(0, 6\) and so no pixel"),
        ((6, 0, 3), "auto", "no pixel"),
        ((6, 5, 0), "auto", "no pixel"),
        ((0, 6, 9), -1, "no pixel"),
    ],
)
def test_bad_shapes(shape, axis, words):
    with pytest.raises(ValueError, match=words):
        check_image(np.ones(shape), "A", channel_axis=axis, name="x")


@pytest.mark.parametrize("axis", [1.0, True, [0]])
def test_channel_axis_is_an_integer(axis):
    with pytest.raises(TypeError, match=r"channel_axis is"):
        check_image(np.ones((5, 6, 3)), "A", channel_axis=axis)


@pytest.mark.parametrize("dtype", ["c8", "c16", "U2", "S2", "O", "M8[s]", "m8[s]", "V4"])
def test_bad_dtypes(dtype):
    with pytest.raises(TypeError, match=r"A: image is .*, expected real numbers"):
        check_image(np.zeros((3, 4), dtype), "A")


def test_ragged_rows():
    with pytest.raises(ValueError, match=r"A: image cannot be read as one array"):
        check_image([[1, 2], [3]], "A")


def test_masked_arrays():
    plain = np.ma.masked_array(np.ones((3, 3)), mask=False)
    assert check_image(plain, "A").shape == (3, 3, 1)
    with pytest.raises(ValueError, match=r"masked array with masked pixels.*mask="):
        check_image(np.ma.masked_equal(np.eye(3), 1), "A")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_non_finite(dtype):
    image = np.ones((3, 4), dtype)
    image[0, :2], image[1, 1] = np.nan, -np.inf
    with pytest.raises(ValueError, match=r"A: image holds 2 NaN and 1 infinite values"):
        check_image(image, "A")


def test_values_beyond_float32():
    assert np.isfinite(check_image(np.full((2, 2), 3e38), "A")).all()
    assert check_image(np.full((2, 2), 2**64 - 1, np.uint64), "A").max() == np.float32(2**64)
    with pytest.raises(ValueError, match=r"up to 1e\+39, beyond float32: divide"):
        check_image(np.array([[0, -1e39]]), "A")


def test_clean_images_are_not_copied():
    image = np.ones((3, 4, 3), np.float32)
    assert np.shares_memory(check_image(image, "A"), image)
    image.flags.writeable = False
    clean = check_image(image, "A")
    assert clean.flags.writeable
    assert not np.shares_memory(clean, image)


def test_bytes_are_kept_on_demand():
    image = np.ones((3, 4), np.uint8)
    assert check_image(image, "A", keep_uint8=True).dtype == np.uint8
    assert check_image(image.astype(np.int16), "A", keep_uint8=True).dtype == np.float32
    image.flags.writeable = False
    assert check_image(image, "A", keep_uint8=True).flags.writeable


# --- labels, masks, weights, prompts -----------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.uint64])
def test_label_map(dtype):
    labels = check_label_map(np.eye(3, dtype=dtype)[::-1], (3, 3), "A")
    assert labels.dtype == np.int32
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, np.eye(3)[::-1])


def test_bad_label_maps():
    for labels in (np.ones((3, 3)), np.full((3, 3), "a"), None, [[1.0] * 3] * 3):
        with pytest.raises(TypeError, match=r"A: labels is .*, expected integers"):
            check_label_map(labels, (3, 3), "A")
    with pytest.raises(ValueError, match=r"\(2, 3\), the image has \(3, 3\)"):
        check_label_map(np.ones((2, 3), int), (3, 3), "A")
    with pytest.raises(ValueError, match=r"ids from -2 to 1"):
        check_label_map([[-2, 1]], (1, 2), "A")
    for big in (np.int64(2**31), np.uint64(2**64 - 1)):
        with pytest.raises(ValueError, match=f"to {big}"):
            check_label_map(np.array([[big]]), (1, 1), "A")
    with pytest.raises(ValueError, match=r"cannot be read as one array"):
        check_label_map([[1, 2], [3]], (2, 2), "A")
    with pytest.raises(TypeError, match=r"is Instances, expected an array"):
        check_label_map(Instances(np.ones((1, 3, 3), bool)), (3, 3), "A")


def test_check_instances():
    objects = Instances(np.ones((1, 3, 3), bool))
    assert check_instances(objects, (3, 3), "A") is objects
    with pytest.raises(ValueError, match=r"masks of \(3, 3\), the image has \(4, 3\)"):
        check_instances(objects, (4, 3), "A")
    with pytest.raises(TypeError, match=r"is a ndarray, expected Instances"):
        check_instances(np.ones((3, 3), int), (3, 3), "A")


def test_check_mask():
    mask = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(check_mask(mask.tolist(), (3, 3), "A"), mask)
    with pytest.raises(TypeError, match=r"A: mask is uint8, expected bool"):
        check_mask(mask.astype(np.uint8), (3, 3), "A")
    with pytest.raises(ValueError, match=r"shape \(3, 3\), the image has \(3, 4\)"):
        check_mask(mask, (3, 4), "A")
    with pytest.raises(ValueError, match=r"False everywhere"):
        check_mask(mask & False, (3, 3), "A")
    with pytest.raises(ValueError, match=r"cannot be read as one array"):
        check_mask([[True], [True, False]], (2, 2), "A")


def test_check_weight():
    assert check_weight(2, (2, 3), "A").tolist() == [[2] * 3] * 2
    weight = check_weight(np.eye(2, 3), (2, 3), "A")
    assert weight.dtype == np.float32
    assert weight.flags.c_contiguous
    assert check_weight(2, (2, 3), "A").flags.writeable
    for bad in (-1, np.nan, np.inf, [[1, 1, -0.5]] * 2):
        with pytest.raises(ValueError, match=r"negative, NaN or infinite"):
            check_weight(bad, (2, 3), "A")
    with pytest.raises(ValueError, match=r"has shape \(3,\), the image has \(2, 3\)"):
        check_weight([1, 2, 3], (2, 3), "A")
    with pytest.raises(TypeError, match=r"expected numbers"):
        check_weight("heavy", (2, 3), "A")


def test_check_prompts():
    good = Prompts(points=[[0, 0], [2.5, 3.9]], boxes=[0, 0, 3, 4], mask=np.ones((3, 4), bool))
    assert check_prompts(good, (3, 4), "A") is good
    with pytest.raises(TypeError, match=r"A: prompts is list, expected Prompts"):
        check_prompts([[0, 0]], (3, 4), "A")
    for point in ([3, 0], [0, 4], [-0.1, 0]):
        with pytest.raises(ValueError, match=r"prompts.points lie outside the image of \(3, 4\)"):
            check_prompts(Prompts(points=[point]), (3, 4), "A")
    for box in ([0, 0, 3.1, 4], [0, -1, 3, 4]):
        with pytest.raises(ValueError, match=r"prompts.boxes reach outside"):
            check_prompts(Prompts(boxes=box), (3, 4), "A")
    with pytest.raises(ValueError, match=r"prompts.scribbles has shape"):
        check_prompts(Prompts(scribbles=np.zeros((3, 3), int)), (3, 4), "A")
    with pytest.raises(ValueError, match=r"prompts.mask has shape"):
        check_prompts(Prompts(mask=np.ones((3, 3), bool)), (3, 4), "A")
    for volume in (Prompts(points=[[0, 0, 0]]), Prompts(boxes=[0, 0, 0, 1, 1, 1])):
        assert check_prompts(volume, (2, 3, 4), "A") is volume
        with pytest.raises(ValueError, match=r"A: prompts have \d numbers .* needs \d"):
            check_prompts(volume, (3, 4), "A")
