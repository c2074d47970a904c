"""Checks of images, labels, masks, prompts and parameters.

Every public function and method calls these before any kernel runs. An error names
the caller, what came, what was expected and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.results import Instances, Prompts

__all__ = [
    "channels_last",
    "check_bool",
    "check_choice",
    "check_class_weight",
    "check_image",
    "check_instances",
    "check_int",
    "check_label_map",
    "check_mask",
    "check_prompts",
    "check_real",
    "check_weight",
    "is_batch",
]

MAX_COLOUR_CHANNELS = 4


# --- parameters --------------------------------------------------------------------------


def check_int(
    caller: str, name: str, value: Any, *, low: int | None = None, high: int | None = None
) -> int:
    """Check an integer parameter and return it as an int.

    Parameters
    ----------
    caller, name : str
        For the message.
    value : object
    low, high : int, optional
        Inclusive bounds.

    Returns
    -------
    int
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(
            f"{caller}: {name} is {value!r} ({type(value).__name__}), expected an integer"
            f"{_bounds(low, high)}."
        )
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{caller}: {name} is {value}, expected an integer{_bounds(low, high)}.")
    return int(value)


def check_real(
    caller: str,
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> float:
    """Check a finite real parameter and return it as a float.

    Parameters
    ----------
    caller, name : str
        For the message.
    value : object
    low, high : float, optional
        Inclusive bounds.
    above : float, optional
        Exclusive lower bound.

    Returns
    -------
    float
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(
            f"{caller}: {name} is {value!r} ({type(value).__name__}), expected a number"
            f"{_bounds(low, high, above)}."
        )
    outside = (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    )
    if outside or not np.isfinite(value):
        raise ValueError(
            f"{caller}: {name} is {value}, expected a finite number{_bounds(low, high, above)}."
        )
    return float(value)


def check_bool(caller: str, name: str, value: Any) -> bool:
    """Check that a parameter is True or False.

    Parameters
    ----------
    caller, name : str
        For the message.
    value : object

    Returns
    -------
    bool
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{caller}: {name} is {value!r} ({type(value).__name__}), expected True or False."
        )
    return bool(value)


def check_choice(caller: str, name: str, value: Any, choices: Sequence[str]) -> str:
    """Check that a parameter is one of a few words.

    Parameters
    ----------
    caller, name : str
        For the message.
    value : object
    choices : sequence of str

    Returns
    -------
    str
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{caller}: {name} is {value!r}, expected one of {', '.join(map(repr, choices))}."
        )
    return value


def check_class_weight(caller: str, value: Any) -> None:
    """Check a ``class_weight``: None, "balanced", or a dict from class id to weight.

    Parameters
    ----------
    caller : str
        For the message.
    value : object
    """
    if value is None or (isinstance(value, str) and value == "balanced"):
        return
    if not isinstance(value, dict) or not value:
        raise ValueError(
            f"{caller}: class_weight is {value!r}, expected None, 'balanced', or a dict from class "
            "id to weight, like {1: 5.0}."
        )
    for key, weight in value.items():
        check_int(caller, "a key of class_weight", key, low=0)
        check_real(caller, f"class_weight[{key}]", weight, low=0)


def _bounds(low: float | None, high: float | None, above: float | None = None) -> str:
    if above is not None:
        return f" above {above}" + ("" if high is None else f" and at most {high}")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"


# --- images ------------------------------------------------------------------------------


def is_batch(images: Any, caller: str = "is_batch") -> bool:
    """Tell one image from many.

    Parameters
    ----------
    images : object
        One array, or a sequence of arrays. A nested list of numbers is one image.
    caller : str
        For the message.

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If it is a path, a mapping or an iterator.
    """
    if isinstance(images, str | bytes | os.PathLike):
        raise TypeError(
            f"{caller}: images is the path {str(images)!r}, expected an array: "
            "read it with segalgos.read_image first."
        )
    if _is_array(images):
        array = np.asarray(images)
        return array.dtype == object and array.ndim == 1 and array.size > 0
    if isinstance(images, dict) or not (
        hasattr(images, "__len__") and hasattr(images, "__getitem__")
    ):
        raise TypeError(
            f"{caller}: images is a {type(images).__name__}, expected an array or a sequence of "
            "arrays: wrap an iterator in list()."
        )
    if len(images) == 0:
        raise ValueError(f"{caller}: images is empty, expected at least one image.")
    if not isinstance(images, list | tuple):
        return True  # a lazy sequence: its items are read one at a time, later
    first = images[0]
    if isinstance(first, str | os.PathLike):
        raise TypeError(
            f"{caller}: images[0] is the path {str(first)!r}, expected an array: "
            "read it with segalgos.read_image first."
        )
    return _is_array(first) and np.ndim(first) > 0


def _is_array(value: Any) -> bool:
    return any(
        hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__")
    )


def check_image(
    image: ArrayLike,
    caller: str,
    *,
    channel_axis: int | str | None = "auto",
    ndims: tuple[int, ...] = (2,),
    keep_uint8: bool = False,
    name: str = "image",
) -> NDArray:
    """Check one image and give it a single layout: channels last, contiguous.

    Parameters
    ----------
    image : array_like
        Any real dtype.
    caller : str
        For the messages.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume. "auto" takes
        (H, W) as grey and (H, W, C) with C of 1 to 4 as colour, and guesses nothing else.
    ndims : tuple of int, default=(2,)
        Numbers of spatial axes that the caller takes.
    keep_uint8 : bool, default=False
        Leave uint8 as it came instead of converting it to float32.
    name : str, default="image"
        For the messages.

    Returns
    -------
    (H, W, C) or (D, H, W, C) float32 or uint8
        C-contiguous and writeable. It may share memory with `image`.

    Raises
    ------
    ValueError
        If the shape is not understood, there is no pixel, or a value is NaN, inf or
        beyond float32.
    TypeError
        If the dtype is not real numbers.
    """
    if isinstance(image, str | bytes | os.PathLike):
        raise TypeError(
            f"{caller}: {name} is the path {str(image)!r}, expected an array: "
            "read it with segalgos.read_image first."
        )
    try:
        array = np.asarray(image)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{caller}: {name} cannot be read as one array ({error}): pass rows of equal length, "
            "or a list of arrays for several images."
        ) from error
    if np.ma.isMaskedArray(image) and np.ma.getmaskarray(image).any():
        raise ValueError(
            f"{caller}: {name} is a masked array with masked pixels: pass its data, and mask= "
            "with True where pixels count."
        )
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"{caller}: {name} is {array.dtype}, expected real numbers: convert it, for "
            "instance with image.astype(float)."
        )
    array = channels_last(array, caller, channel_axis, ndims, name)
    if array.size == 0:
        raise ValueError(
            f"{caller}: {name} has shape {np.shape(image)} and so no pixel: expected at least one."
        )
    if keep_uint8 and array.dtype == np.uint8:
        return _writeable(np.ascontiguousarray(array))
    with np.errstate(over="ignore", invalid="ignore"):
        clean = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "f" and not np.isfinite(clean).all():
        _raise_not_finite(array, caller, name)
    return _writeable(clean)


def _writeable(array: NDArray) -> NDArray:
    # Kernels and torch compile or warn differently for read-only memory.
    return array if array.flags.writeable else array.copy()


def _raise_not_finite(array: NDArray, caller: str, name: str) -> None:
    n_nan, n_inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if n_nan or n_inf:
        what = " and ".join(f"{n} {word}" for n, word in ((n_nan, "NaN"), (n_inf, "infinite")) if n)
        raise ValueError(
            f"{caller}: {name} holds {what} values, expected finite ones: replace them, for "
            "instance with numpy.nan_to_num, or cut them off."
        )
    raise ValueError(
        f"{caller}: {name} holds values up to {np.abs(array).max():.3g}, beyond float32: "
        "divide the image by a constant first."
    )


def channels_last(
    array: NDArray, caller: str, channel_axis: int | str | None, ndims: tuple[int, ...], name: str
) -> NDArray:
    """See an array with its channels last, as `check_image` takes and gives it.

    Parameters
    ----------
    array : ndarray
    caller : str
        For the messages.
    channel_axis : int, None or "auto"
    ndims : tuple of int
    name : str

    Returns
    -------
    (H, W, C) or (D, H, W, C) ndarray
        A view.

    Raises
    ------
    ValueError
        If the shape is not understood.
    """
    shape = array.shape
    if isinstance(channel_axis, str):
        if channel_axis != "auto":
            raise ValueError(
                f'{caller}: channel_axis is {channel_axis!r}, expected "auto", None or an integer.'
            )
        if array.ndim == 2:
            return array[..., None]
        if array.ndim == 3 and (1 <= shape[-1] <= MAX_COLOUR_CHANNELS or array.size == 0):
            return array
        if array.ndim == 3:
            raise ValueError(
                f"{caller}: {name} has shape {shape}: a volume or {shape[-1]} channels? Pass "
                "channel_axis=None for a volume (D, H, W), channel_axis=-1 for channels."
            )
        raise ValueError(
            f"{caller}: {name} has shape {shape}, expected (H, W) or (H, W, C) with C of 1 to "
            f"{MAX_COLOUR_CHANNELS}: pass channel_axis=-1 for a volume with channels, or a list "
            "for several images."
        )
    if channel_axis is None:
        array, spatial = array[..., None], array.ndim
    else:
        axis = check_int(caller, "channel_axis", channel_axis)
        if not -array.ndim <= axis < array.ndim:
            raise ValueError(
                f"{caller}: channel_axis is {axis}, but {name} has shape {shape}: "
                "pass one of its axes."
            )
        array, spatial = np.moveaxis(array, axis, -1), array.ndim - 1
    if spatial not in ndims:
        wanted = " or ".join({2: "(H, W)", 3: "(D, H, W)"}[n] for n in ndims)
        raise ValueError(
            f"{caller}: {name} has shape {shape}; with channel_axis={channel_axis} that is "
            f"{spatial} spatial axes, expected {wanted}: change channel_axis or the image."
        )
    return array


# --- labels, masks, weights, prompts -----------------------------------------------------


def _as_array(value: Any, caller: str, name: str) -> NDArray:
    if isinstance(value, Instances):
        raise TypeError(
            f"{caller}: {name} is Instances, expected an array (H, W): make one with its "
            "to_labels()."
        )
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{caller}: {name} cannot be read as one array ({error}): pass rows of equal length."
        ) from error


def check_label_map(
    labels: ArrayLike, shape: tuple[int, ...], caller: str, name: str = "labels"
) -> NDArray[np.int32]:
    """Check a label map: integers of at least -1, of the image's spatial shape.

    Parameters
    ----------
    labels : array_like
    shape : tuple of int
        Spatial shape of the image.
    caller, name : str
        For the messages.

    Returns
    -------
    ndarray of int32
        C-contiguous; -1 is unlabelled.
    """
    array = _as_array(labels, caller, name)
    if array.dtype.kind not in "bui":
        raise TypeError(
            f"{caller}: {name} is {array.dtype}, expected integers: class ids from 0 on, -1 for "
            "unlabelled pixels."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, the image has {tuple(shape)}: pass a "
            "label map of the image's height and width."
        )
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < -1 or high > np.iinfo(np.int32).max:
        raise ValueError(
            f"{caller}: {name} holds ids from {low} to {high}, expected -1 (unlabelled) or class "
            "ids from 0 on: renumber them."
        )
    return np.ascontiguousarray(array, dtype=np.int32)


def check_instances(
    instances: Instances, shape: tuple[int, ...], caller: str, name: str = "labels"
) -> Instances:
    """Check that something is `Instances` of the image's shape.

    Parameters
    ----------
    instances : Instances
    shape : tuple of int
    caller, name : str
        For the messages.

    Returns
    -------
    Instances
    """
    if not isinstance(instances, Instances):
        raise TypeError(
            f"{caller}: {name} is a {type(instances).__name__}, expected Instances: "
            "make it with Instances.from_labels."
        )
    if instances.shape != tuple(shape):
        raise ValueError(
            f"{caller}: {name} has masks of {instances.shape}, the image has {tuple(shape)}: "
            "pass masks of the image's height and width."
        )
    return instances


def check_mask(
    mask: ArrayLike, shape: tuple[int, ...], caller: str, name: str = "mask"
) -> NDArray[np.bool_]:
    """Check a mask: boolean, of the image's spatial shape, True somewhere.

    Parameters
    ----------
    mask : array_like of bool
        True where pixels are to be segmented.
    shape : tuple of int
    caller, name : str
        For the messages.

    Returns
    -------
    ndarray of bool
    """
    array = _as_array(mask, caller, name)
    if array.dtype != bool:
        raise TypeError(
            f"{caller}: {name} is {array.dtype}, expected bool, True where pixels count: "
            "compare it first, for instance mask > 0."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, the image has {tuple(shape)}: pass a mask "
            "of the image's height and width."
        )
    if not array.any():
        raise ValueError(f"{caller}: {name} is False everywhere: expected at least one pixel.")
    return np.ascontiguousarray(array)


def check_weight(
    weight: ArrayLike, shape: tuple[int, ...], caller: str, name: str = "sample_weight"
) -> NDArray[np.float32]:
    """Check the weights of one image's pixels: one number, or one a pixel.

    Parameters
    ----------
    weight : float or array_like
    shape : tuple of int
    caller, name : str
        For the messages.

    Returns
    -------
    ndarray of float32
        Of the image's spatial shape.
    """
    array = _as_array(weight, caller, name)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{caller}: {name} is {array.dtype}, expected numbers of at least 0.")
    if array.shape not in ((), tuple(shape)):
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, the image has {tuple(shape)}: pass one "
            "weight an image or one a pixel."
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{caller}: {name} holds negative, NaN or infinite weights.")
    return np.ascontiguousarray(np.broadcast_to(array, shape), dtype=np.float32)


def check_prompts(
    prompts: Prompts, shape: tuple[int, ...], caller: str, name: str = "prompts"
) -> Prompts:
    """Check that prompts lie on the image.

    Parameters
    ----------
    prompts : Prompts
    shape : tuple of int
    caller, name : str
        For the messages.

    Returns
    -------
    Prompts
    """
    if not isinstance(prompts, Prompts):
        raise TypeError(
            f"{caller}: {name} is {type(prompts).__name__}, expected Prompts: pass for instance "
            "Prompts(points=[[row, column]])."
        )
    size = np.array(shape, float)
    for values, n_numbers in ((prompts.points, len(shape)), (prompts.boxes, 2 * len(shape))):
        if values is not None and values.shape[1] != n_numbers:
            raise ValueError(
                f"{caller}: {name} have {values.shape[1]} numbers a point or box, the image of "
                f"{tuple(shape)} needs {n_numbers}."
            )
    if prompts.points is not None and (
        (prompts.points < 0).any() or (prompts.points >= size).any()
    ):
        raise ValueError(
            f"{caller}: {name}.points lie outside the image of {tuple(shape)}: points are row, "
            "column."
        )
    if prompts.boxes is not None and (
        (prompts.boxes < 0).any() or (prompts.boxes[:, len(shape) :] > size).any()
    ):
        raise ValueError(
            f"{caller}: {name}.boxes reach outside the image of {tuple(shape)}: boxes are row0, "
            "col0, row1, col1."
        )
    if prompts.scribbles is not None:
        check_label_map(prompts.scribbles, shape, caller, f"{name}.scribbles")
    if prompts.mask is not None:
        check_mask(prompts.mask, shape, caller, f"{name}.mask")
    return prompts
