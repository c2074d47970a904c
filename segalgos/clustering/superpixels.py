"""One door to all superpixels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_choice
from segalgos.clustering.etps import etps
from segalgos.clustering.slic import slic

__all__ = ["superpixels"]

METHODS: dict[str, Callable[..., NDArray[np.int32]]] = {
    "slic": slic,
    "slico": partial(slic, adaptive_compactness=True),
    "etps": etps,
}


def superpixels(
    image: ArrayLike,
    n_segments: int = 250,
    *,
    method: str = "slic",
    mask: ArrayLike | None = None,
    channel_axis: int | str | None = "auto",
    **options: Any,
) -> NDArray[np.int32]:
    """Cut an image into superpixels: small connected segments that respect its edges.

    Parameters
    ----------
    image : (H, W), (H, W, C) or volume, array_like
    n_segments : int, default=250
        How many to make.
    method : {"slic", "slico", "etps"}, default="slic"
        "slic": compact segments of about equal size, quickly. "slico": the same with a
        compactness that adapts to each segment's contrast. "etps": segments that follow
        edges most closely, as many as asked for.
    mask : array_like of bool, optional
        True where pixels are to be segmented; all others get -1 and have no influence.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image or volume.
    **options
        Of the method, as its own function takes them: `segalgos.slic`,
        `segalgos.etps`.

    Returns
    -------
    (H, W) or (D, H, W) int32
        Ids 0..n-1, each one piece, connected over the sides of pixels.

    Raises
    ------
    ValueError
        If there is no such method, or an argument is not as expected.
    TypeError
        If the method has no such option.

    See Also
    --------
    segalgos.metrics.superpixel_scores : How good they are.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import superpixels
    >>> image = np.zeros((4, 6))
    >>> image[1:3, 2:5] = 1
    >>> superpixels(image, 2, method="etps", compactness=2)
    array([[0, 0, 0, 0, 0, 0],
           [0, 0, 1, 1, 1, 0],
           [0, 0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0, 0]], dtype=int32)
    """
    caller = "superpixels"
    function = METHODS[check_choice(caller, "method", method, tuple(METHODS))]
    taken = {"image", "n_segments", "mask", "channel_axis"}
    if method == "slico":
        taken.add("adaptive_compactness")
    known = [name for name in inspect.signature(function).parameters if name not in taken]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"{caller}: method {method!r} has no option {', '.join(map(repr, unknown))}: its "
            f"options are {', '.join(known)}."
        )
    return function(image, n_segments, mask=mask, channel_axis=channel_axis, **options)
