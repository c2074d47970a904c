"""Pictures of segmentations: overlays, objects, prompts, comparison grids; and of training.

Overlays are plain ``uint8`` arrays, so they can be saved, shown or drawn on with anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segalgos.checks import check_choice, check_label_map, check_real
from segalgos.drawing import LINE_LIGHTEN, boundaries, displayed, draw_instances, draw_prompts
from segalgos.palette import FIRST_COLORS, label_colors
from segalgos.results import Instances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "boundaries",
    "comparison_grid",
    "draw_instances",
    "draw_prompts",
    "label_colors",
    "learning_curve",
    "overlay",
]

_IMAGE_INCHES = 2.2  # width of one picture in a comparison grid


def overlay(
    image: ArrayLike, labels: ArrayLike, *, alpha: float = 0.5, boundaries: bool = True
) -> NDArray[np.uint8]:
    """Paint a label map over its image.

    Parameters
    ----------
    image : (H, W) or (H, W, C)
        Any real dtype, C of 1 to 4: see Notes for how it is displayed.
    labels : (H, W) int
        Each id gets its colour of `label_colors`; pixels of -1 show the image alone.
    alpha : float, default=0.5
        Opacity of the colours, 0 to 1.
    boundaries : bool, default=True
        Draw a line one pixel thick, in a lighter colour, where labels meet.

    Returns
    -------
    (H, W, 3) uint8

    Notes
    -----
    uint8 is displayed as it is. Booleans and floats within 0 to 1 are multiplied by 255. All
    else (16-bit images, floats beyond 0 to 1) is stretched from its own minimum to its own
    maximum; a constant image is then black. Of two channels the first is shown in grey; a fourth
    channel is not shown.
    """
    caller = "overlay"
    picture = displayed(image, caller)
    labels = check_label_map(labels, picture.shape[:2], caller)
    alpha = check_real(caller, "alpha", alpha, low=0, high=1)
    return _paint(picture, labels, alpha, boundaries)


def _paint(picture, labels, alpha, lines):
    # The id -1 takes the last color of all, black, with no weight.
    colors = np.append(label_colors(labels), [[0, 0, 0]], axis=0).astype(np.float32)
    weight = np.where(labels >= 0, np.float32(alpha), np.float32(0))[..., None]
    painted = (1 - weight) * picture + weight * colors[labels]
    if lines:
        # Where only the right or lower neighbour is labelled, the line takes that one's colour.
        own = labels.copy()
        own[:, :-1] = np.maximum(own[:, :-1], np.where(own[:, :-1] < 0, labels[:, 1:], -1))
        own[:-1] = np.maximum(own[:-1], np.where(own[:-1] < 0, labels[1:], -1))
        line = boundaries(labels)
        painted[line] = colors[own[line]] + LINE_LIGHTEN * (255 - colors[own[line]])
    return painted.round().astype(np.uint8)


def comparison_grid(
    images: Sequence[ArrayLike],
    rows: Sequence[Sequence[ArrayLike | Instances]],
    titles: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    alpha: float = 0.5,
) -> Figure:
    """Show what several methods make of several images: a row a method, a column an image.

    Parameters
    ----------
    images : sequence of n_images images
        Displayed in the first row, as by `overlay`. Sizes may differ.
    rows : sequence of n_methods sequences
        What each method found in each image: a label map (H, W), or `Instances`.
    titles : sequence of n_methods str
        Names of the methods, written left of their rows.
    names : sequence of n_images str, optional
        Names of the images, written above their columns.
    alpha : float, default=0.5
        Opacity of the colours.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: show it in a notebook or call its ``savefig``.

    Raises
    ------
    ValueError
        If the numbers of rows and titles, or of results and images, differ.

    Examples
    --------
    >>> image = np.zeros((4, 6))
    >>> figure = comparison_grid([image], [[np.zeros((4, 6), int)]], ["one region"])
    >>> len(figure.axes)
    2
    """
    from matplotlib.figure import Figure

    caller = "comparison_grid"
    _check_lengths(caller, images, rows, titles, names)
    pictures = [[displayed(image, caller) for image in images]]
    for row in rows:
        pictures.append(
            [
                draw_instances(image, result, alpha=alpha)
                if isinstance(result, Instances)
                else overlay(image, result, alpha=alpha)
                for image, result in zip(images, row)
            ]
        )
    # Columns are equally wide; each row is as high as its highest picture.
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures[0])
    figure = Figure(
        figsize=(_IMAGE_INCHES * len(images) + 0.5, _IMAGE_INCHES * aspect * len(pictures) + 0.3),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(pictures), len(images), squeeze=False)
    for i, (title, row) in enumerate(zip(["image", *titles], pictures)):
        for j, picture in enumerate(row):
            panel = axes[i, j]
            panel.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else None)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        axes[i, 0].set_ylabel(title, fontsize=9)
    for panel, name in zip(axes[0], names or ()):
        panel.set_title(name, fontsize=9)
    return figure


def _check_lengths(caller, images, rows, titles, names):
    if not len(images):
        raise ValueError(f"{caller}: images is empty: pass at least one image.")
    if len(rows) != len(titles):
        raise ValueError(
            f"{caller}: got {len(rows)} rows and {len(titles)} titles: pass a title for each row."
        )
    for title, row in zip(titles, rows):
        if len(row) != len(images):
            raise ValueError(
                f"{caller}: the row {title!r} has {len(row)} results for {len(images)} images: "
                "pass one for each image."
            )
    if names is not None and len(names) != len(images):
        raise ValueError(
            f"{caller}: got {len(names)} names for {len(images)} images: pass one for each image."
        )


def learning_curve(
    history: Sequence[Mapping[str, float]], ax: Axes | None = None, *, x: str = "epoch"
) -> Axes:
    """Show how training went: the loss, the score where it was validated, the learning rate.

    Parameters
    ----------
    history : sequence of mapping
        The attribute ``history_`` of a net: one row an epoch, with "loss" and `x`; "score" and
        "learning_rate" are drawn where a row has them.
    ax : matplotlib.axes.Axes, optional
        Where to draw. A new figure, not registered with pyplot, by default.
    x : {"epoch", "steps", "seconds"}, default="epoch"
        What runs from left to right.

    Returns
    -------
    matplotlib.axes.Axes
        That of the loss. The score has an axis of its own at the right; a circle marks its
        best value, the later of equals, whose weights are those that training keeps. The
        learning rate is a thin line, scaled to the height of the axes.

    Raises
    ------
    ValueError
        If the history is empty, a row misses a value, or there is no such `x`.

    Examples
    --------
    >>> rows = [{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.4, "score": 0.8}]
    >>> learning_curve(rows).get_xlabel()
    'epoch'
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    caller = "learning_curve"
    check_choice(caller, "x", x, ("epoch", "steps", "seconds"))
    if not len(history):
        raise ValueError(f"{caller}: history is empty: pass history_ of a net that was trained.")
    for i, row in enumerate(history):
        for name in (x, "loss"):
            if name not in row:
                raise ValueError(
                    f"{caller}: history[{i}] has {', '.join(row)}, but no {name!r}: pass history_ "
                    "of a net."
                )
    if ax is None:
        ax = Figure(figsize=(5.5, 3.2), layout="constrained").subplots()
    loss_color, score_color = np.array(FIRST_COLORS[4:6]) / 255  # dark enough for lines

    def points(name: str) -> tuple[list[float], list[float]]:
        rows = [row for row in history if name in row]
        return [row[x] for row in rows], [row[name] for row in rows]

    marker = "o" if len(history) == 1 else ""
    lines = ax.plot(*points("loss"), marker=marker, color=loss_color, label="loss")
    ax.set(xlabel=x, ylabel="loss")
    if x != "seconds":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    at, rates = points("learning_rate")
    if rates and max(rates) > 0:
        heights = [rate / max(rates) for rate in rates]
        label = f"learning rate, up to {max(rates):.2g}"
        lines += ax.plot(
            at, heights, transform=ax.get_xaxis_transform(), color="0.55", lw=1, ls=":", label=label
        )
    at, scores = points("score")
    if scores:
        right = ax.twinx()
        lines += right.plot(at, scores, ".-", color=score_color, ms=4, label="score")
        best = len(scores) - 1 - int(np.argmax(scores[::-1]))
        right.plot(at[best], scores[best], "o", mfc="none", color=score_color, ms=9)
        right.set_ylabel("score")
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
    ax.legend(handles=lines, ncols=len(lines), fontsize=8, **above)
    return ax
