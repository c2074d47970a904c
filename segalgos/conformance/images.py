"""Checks of what counts as an image: shapes, dtypes, memory layouts, degenerate values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segalgos.base import Segmenter
from segalgos.conformance._compare import assert_same, assert_valid, fingerprint
from segalgos.conformance._examples import (
    clicks,
    example,
    fitted,
    fresh,
    predict,
    predict_proba,
    prompts_for,
)
from segalgos.conformance._promise import promise, refused

REAL_DTYPES = (
    *(bool, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64, np.longdouble),
)


class _Lazy(Sequence):
    """A sequence that is no list, as a data set is."""

    def __init__(self, items):
        self._items = items

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]


# --- one or many -------------------------------------------------------------------------


@promise()
def check_one_in_one_out(segmenter: Segmenter) -> None:
    """One image in, one result of its height and width out."""
    data = example(segmenter)
    one = fresh(segmenter).fit(data.images[0], data.targets[0])
    assert_valid(one, predict(one, data.images[0]), data.images[0].shape[:2], "one image")


@promise()
def check_list_in_list_out(segmenter: Segmenter) -> None:
    """A list or tuple of images in, a list of as many results out."""
    data = example(segmenter)
    model = fitted(segmenter)
    for kind in (list, tuple):
        for n in (1, 2):
            results = predict(model, kind(data.images[:n]))
            assert isinstance(results, list), f"a {kind.__name__} gave {type(results).__name__}"
            assert len(results) == n, f"{n} images gave {len(results)} results"


@promise()
def check_ragged_sizes(segmenter: Segmenter) -> None:
    """Images of unlike size get the results that each gets alone."""
    data = example(segmenter)
    model = fitted(segmenter)
    together = predict(model, data.images)
    for i, image in enumerate(data.images):
        assert_valid(model, together[i], image.shape[:2], f"images[{i}]")
        assert_same(together[i], predict(model, image), f"images[{i}] in a list and alone")


@promise()
def check_lazy_sequence(segmenter: Segmenter) -> None:
    """A sequence that makes its items on demand counts as many images, in fit and predict."""
    data = example(segmenter)
    model = fresh(segmenter).fit(_Lazy(data.images), _Lazy(data.targets))
    results = predict(model, _Lazy(data.images))
    assert_same(results, predict(fitted(segmenter), data.images), "a lazy sequence and a list")


@promise()
def check_object_array(segmenter: Segmenter) -> None:
    """A one-dimensional object array of images counts as many images."""
    data = example(segmenter)
    images = np.empty(len(data.images), object)
    images[:] = data.images
    model = fitted(segmenter)
    results = predict(model, images)
    assert isinstance(results, list), f"it gave {type(results).__name__}"
    assert_same(results, predict(model, data.images), "an object array and a list")


@promise()
def check_nested_lists(segmenter: Segmenter) -> None:
    """Nested lists of numbers are one image, with the result of the array."""
    image = example(segmenter).images[0]
    model = fitted(segmenter)
    array = predict(model, image.astype(np.float32))
    assert_same(predict(model, image.tolist()), array, "nested lists and the same array")


@promise()
def check_not_a_batch(segmenter: Segmenter) -> None:
    """An empty list, an iterator, a mapping and None are refused."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    prompts = {"prompts": [clicks(image)]} if model.traits.task == "interactive" else {}
    for what, images, kinds in (
        ("an empty list", [], ValueError),
        ("an iterator", iter([image]), TypeError),
        ("a mapping", {"image": image}, TypeError),
        ("None", None, TypeError),
    ):
        with refused(f"{what} in predict", kinds):
            model.predict(images, **prompts)
        with refused(f"{what} in fit", kinds):
            fresh(segmenter).fit(images, None)


@promise()
def check_path_refused(segmenter: Segmenter) -> None:
    """A path is refused with the way to read it; no file is opened behind the user's back."""
    model = fitted(segmenter)
    prompts = {"prompts": clicks(np.ones((9, 9)))} if model.traits.task == "interactive" else {}
    for path in ("photo.png", Path("photo.png")):
        for images in (path, [path]):
            with refused(f"{images!r}", TypeError, naming=("read_image",)):
                model.predict(images, **prompts)


# --- shapes ------------------------------------------------------------------------------


@promise()
def check_grey(segmenter: Segmenter) -> None:
    """(H, W) is a grey image, the same as (H, W, 1)."""
    data = example(segmenter, channels=None)
    model = fitted(segmenter, channels=None)
    results = predict(model, data.images)
    for image, result in zip(data.images, results, strict=True):
        assert_valid(model, result, image.shape, "a grey image")
        assert_same(result, predict(model, image[..., None]), "(H, W) and (H, W, 1)")


@promise()
def check_colour_channels(segmenter: Segmenter) -> None:
    """(H, W, C) with C of 1 to 4 is a colour image."""
    for channels in (1, 2, 3, 4):
        data = example(segmenter, channels=channels)
        model = fitted(segmenter, channels=channels)
        for image, result in zip(data.images, predict(model, data.images), strict=True):
            assert_valid(model, result, image.shape[:2], f"{channels} channels")


@promise()
def check_many_channels(segmenter: Segmenter) -> None:
    """Seven channels need channel_axis, and give the same result first or last, or are refused."""
    data = example(segmenter, channels=7)
    most = segmenter.traits.max_channels
    if most is not None and most < 7:
        model = fresh(segmenter, channel_axis=-1)
        with refused("fit on seven channels", naming=("7 channels", str(most))):
            model.fit(data.images, data.targets)
        return
    last = fresh(segmenter, channel_axis=-1).fit(data.images, data.targets)
    results = predict(last, data.images)
    for image, result in zip(data.images, results, strict=True):
        assert_valid(last, result, image.shape[:2], "seven channels")
    first = fresh(segmenter, channel_axis=0)
    turned = [np.moveaxis(image, -1, 0) for image in data.images]
    first.fit(turned, data.targets)
    prompts = {"prompts": prompts_for(data.images)} if last.traits.task == "interactive" else {}
    assert_same(first.predict(turned, **prompts), results, "channels first and last")


@promise()
def check_ambiguous_shape(segmenter: Segmenter) -> None:
    """A shape such as (5, 20, 20) is never guessed: both readings are named."""
    image = np.zeros((5, 20, 20), np.float32)
    both = ("channel_axis=None", "channel_axis=-1")
    targets = example(segmenter, shapes=((5, 20),)).targets
    with refused("fit on (5, 20, 20)", naming=both):
        fresh(segmenter).fit([image], targets)
    with refused("predict on (5, 20, 20)", naming=both):
        predict(fitted(segmenter), image)


@promise(when=lambda traits: traits.task in ("partition", "semantic"))
def check_volume(segmenter: Segmenter) -> None:
    """A volume is segmented where traits.ndims holds 3, and refused where it does not."""
    data = example(segmenter, channels=None, shapes=((6, 10, 12), (5, 9, 11)))
    model = fresh(segmenter, channel_axis=None)
    if 3 not in segmenter.traits.ndims:
        with refused("a volume", naming=("(6, 10, 12)", "channel_axis")):
            model.fit(data.images, data.targets)
        return
    model.fit(data.images, data.targets)
    for image, result in zip(data.images, model.predict(data.images), strict=True):
        assert_valid(model, result, image.shape, "a volume")


@promise()
def check_wrong_number_of_axes(segmenter: Segmenter) -> None:
    """Arrays of 0, 1, 4 and 5 axes are refused with their shape."""
    model = fitted(segmenter)
    for shape in ((), (7,), (2, 8, 8, 3), (1, 2, 8, 8, 3)):
        with refused(f"an array of shape {shape}", naming=(str(shape),)):
            predict(model, np.ones(shape, np.float32))


@promise()
def check_empty_image(segmenter: Segmenter) -> None:
    """An image without pixels is refused, in fit and predict."""
    model = fitted(segmenter)
    for shape in ((0, 5, 3), (5, 0, 3), (0, 0, 3), (0, 5), (5, 4, 0)):
        empty = np.empty(shape, np.float32)
        with refused(f"predict on shape {shape}", naming=(str(shape),)):
            predict(model, empty)
        with refused(f"fit on shape {shape}", naming=(str(shape),)):
            fresh(segmenter).fit([empty], example(segmenter).targets[:1])


@promise()
def check_tiny_images(segmenter: Segmenter) -> None:
    """Images of one pixel, one row and one column are segmented."""
    model = fitted(segmenter)
    image = example(segmenter).images[0]
    for shape in ((1, 1), (1, 9), (9, 1), (2, 2)):
        result = predict(model, image[: shape[0], : shape[1]])
        assert_valid(model, result, shape, f"an image of {shape}")


@promise(when=lambda traits: traits.needs_fit)
def check_channel_count(segmenter: Segmenter) -> None:
    """predict refuses another number of channels than it was fitted with."""
    model = fitted(segmenter)
    with refused("4 channels after 3", naming=("4", "3")):
        predict(model, example(segmenter, channels=4).images[0])
    with refused("grey after 3 channels", naming=("1", "3")):
        predict(model, example(segmenter, channels=None).images[0])


@promise()
def check_mixed_channels(segmenter: Segmenter) -> None:
    """fit refuses a grey and a colour image together."""
    data = example(segmenter)
    images = [data.images[0], data.images[1][..., 0]]
    with refused("a colour and a grey image", naming=("channels",)):
        fresh(segmenter).fit(images, data.targets)


# --- dtypes and values -------------------------------------------------------------------


@promise()
def check_real_dtypes(segmenter: Segmenter) -> None:
    """Every real dtype is taken, and read as the same numbers in float32 are."""
    image = example(segmenter).images[0]
    model = fitted(segmenter)
    for dtype in REAL_DTYPES:
        typed = image > 127 if dtype is bool else (image // 2).astype(dtype)
        name = np.dtype(dtype).name
        result = predict(model, typed)
        assert_valid(model, result, image.shape[:2], name)
        if not (model.traits.keeps_uint8 and dtype is np.uint8):
            assert_same(result, predict(model, typed.astype(np.float32)), f"{name} and float32")


@promise()
def check_byte_order(segmenter: Segmenter) -> None:
    """Images in the other byte order are read as the same numbers."""
    image = example(segmenter).images[0].astype(np.float32)
    model = fitted(segmenter)
    swapped = image.astype(image.dtype.newbyteorder())
    assert_same(predict(model, swapped), predict(model, image), "the two byte orders")


@promise()
def check_other_dtypes_refused(segmenter: Segmenter) -> None:
    """Complex, text, object and datetime images are refused, with their dtype."""
    model = fitted(segmenter)
    image = example(segmenter).images[0][..., 0]
    for dtype in (complex, "U3", object, "datetime64[s]"):
        odd = image.astype(np.int64).astype(dtype)
        with refused(f"{odd.dtype} in predict", TypeError, naming=(str(odd.dtype),)):
            predict(model, odd)
        with refused(f"{odd.dtype} in fit", TypeError, naming=(str(odd.dtype),)):
            fresh(segmenter).fit([odd], example(segmenter).targets[:1])


@promise()
def check_masked_array_refused(segmenter: Segmenter) -> None:
    """A masked array with masked pixels is refused rather than read without its mask."""
    image = np.ma.masked_greater(example(segmenter).images[0], 200)
    with refused("a masked array", naming=("mask",)):
        predict(fitted(segmenter), image)


@promise()
def check_nan_and_inf(segmenter: Segmenter) -> None:
    """NaN and infinities are refused before any kernel sees them, in fit and predict."""
    data = example(segmenter)
    model = fitted(segmenter)
    for value, word in ((np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")):
        for dtype in (np.float16, np.float32, np.float64):
            image = data.images[0].astype(dtype)
            image[3, 4, 1] = value
            with refused(f"{value} ({dtype.__name__}) in predict", naming=(word,)):
                predict(model, image)
        with refused(f"{value} in fit", naming=(word,)):
            fresh(segmenter).fit([data.images[1], image], data.targets[::-1])


@promise()
def check_beyond_float32(segmenter: Segmenter) -> None:
    """Finite values beyond float32 are refused, not turned into infinities."""
    image = example(segmenter).images[0].astype(np.float64) * 1e300
    with refused("values up to 1e302", naming=("float32",)):
        predict(fitted(segmenter), image)


def _fit_and_predict(segmenter, images, what):
    data = example(segmenter)
    model = fresh(segmenter).fit(images, data.targets)
    for image, result in zip(images, predict(model, images), strict=True):
        assert_valid(model, result, image.shape[:2], what)


@promise()
def check_constant_image(segmenter: Segmenter) -> None:
    """A constant image is learned from and gets a valid result, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0, 7, -3):
            images = [np.full(i.shape, value, np.float32) for i in example(segmenter).images]
            _fit_and_predict(segmenter, images, f"constant {value}")


@promise()
def check_huge_values(segmenter: Segmenter) -> None:
    """Values near 1e30 give a valid result, or a ValueError with a remedy; never a warning."""
    images = [i.astype(np.float32) * np.float32(1e28) for i in example(segmenter).images]
    refusal = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            _fit_and_predict(segmenter, images, "values near 1e30")
        except ValueError as error:
            refusal = str(error)
    name = type(segmenter).__name__
    assert refusal is None or refusal.startswith(name), f"the refusal names no {name}: {refusal}"


@promise()
def check_denormal_values(segmenter: Segmenter) -> None:
    """Denormal values give a valid result without a warning."""
    images = [i.astype(np.float32) * np.float32(1e-42) for i in example(segmenter).images]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _fit_and_predict(segmenter, images, "values near 1e-40")


# --- memory ------------------------------------------------------------------------------


def _read_only(image):
    image = image.copy()
    image.flags.writeable = False
    return image


def _spread(image):
    wide = np.zeros((2 * image.shape[0], 3 * image.shape[1], image.shape[2]), image.dtype)
    wide[::2, ::3] = image
    return wide[::2, ::3]


@promise()
def check_memory_layouts(segmenter: Segmenter) -> None:
    """Read-only, Fortran, strided and flipped arrays are learned from and read as copies are."""
    data = example(segmenter)
    model = fitted(segmenter)
    expected = predict(model, data.images)
    layouts = {
        "read-only": _read_only,
        "Fortran-ordered": np.asfortranarray,
        "strided": _spread,
        "flipped": lambda image: image[::-1, ::-1].copy()[::-1, ::-1],
        "channels-first in memory": lambda i: np.moveaxis(np.moveaxis(i, -1, 0).copy(), 0, -1),
        "read-only float32": lambda image: _read_only(image.astype(np.float32)),
    }
    for name, layout in layouts.items():
        images = [layout(image) for image in data.images]
        if name.endswith("float32"):
            plain = [image.copy() for image in images]
            again = fresh(segmenter).fit(plain, data.targets)
            expected = predict(again, plain)
        assert_same(predict(fresh(segmenter).fit(images, data.targets), images), expected, name)


@promise()
def check_input_never_written(segmenter: Segmenter) -> None:
    """Images, labels, masks, weights and prompts are never written to."""
    data = example(segmenter)
    traits = segmenter.traits
    # float32, C-contiguous and int32: the layout that could reach a hook without a copy.
    images = [image.astype(np.float32) for image in data.images]
    fit = {"images": images, "labels": data.targets}
    if traits.takes_sample_weight:
        fit["sample_weight"] = [np.full(i.shape[:2], 0.5, np.float32) for i in images]
    use = {"images": images}
    if traits.takes_mask:
        use["mask"] = [_half(image) for image in images]
    if traits.takes_prompts:
        use["prompts"] = [clicks(image) for image in images]
    before = {name: fingerprint(value) for name, value in (fit | use).items()}
    model = fresh(segmenter).fit(**fit)
    model.predict(**use)
    if hasattr(model, "predict_proba"):
        predict_proba(model, images)
    for name, value in (fit | use).items():
        assert fingerprint(value) == before[name], f"{name} was written to"


def _half(image):
    mask = np.zeros(image.shape[:2], bool)
    mask[: len(mask) // 2] = True
    return mask


@promise()
def check_keeps_no_view(segmenter: Segmenter) -> None:
    """What was learned does not change when the training arrays are overwritten later."""
    data = example(segmenter)
    images = [image.astype(np.float32) for image in data.images]
    test = [image.copy() for image in images]
    targets = copy.deepcopy(data.targets)
    model = fresh(segmenter).fit(images, targets)
    expected = predict(model, test)
    for image in images:
        image[:] = 0
    for target in targets:
        (target.masks if hasattr(target, "masks") else target)[:] = 0
    assert_same(predict(model, test), expected, "before and after the training data changed")


CHECKS = (
    check_one_in_one_out,
    check_list_in_list_out,
    check_ragged_sizes,
    check_lazy_sequence,
    check_object_array,
    check_nested_lists,
    check_not_a_batch,
    check_path_refused,
    check_grey,
    check_colour_channels,
    check_many_channels,
    check_ambiguous_shape,
    check_volume,
    check_wrong_number_of_axes,
    check_empty_image,
    check_tiny_images,
    check_channel_count,
    check_mixed_channels,
    check_real_dtypes,
    check_byte_order,
    check_other_dtypes_refused,
    check_masked_array_refused,
    check_nan_and_inf,
    check_beyond_float32,
    check_constant_image,
    check_huge_values,
    check_denormal_values,
    check_memory_layouts,
    check_input_never_written,
    check_keeps_no_view,
)
