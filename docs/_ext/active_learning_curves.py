"""A directive that draws accuracy against the number of labelled images.

``.. active-learning-curves::`` reads ``benchmarks/results/active_learning/*/results.jsonl``, as
``benchmarks/active_learning.py`` wrote them, and draws a panel for each set and kind of labels, a
line for each order, the mean over seeds; without rows, nothing.
"""

import json
from pathlib import Path

import numpy as np
from figures import svg_node
from matplotlib.figure import Figure
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
COLOURS = {
    "random": "#000000",
    "uncertainty": "#d55e00",
    "diversity": "#cc79a7",
    "coverage": "#009e73",
    "both": "#0072b2",
}
ALL = "all images"


class ActiveLearningCurves(SphinxDirective):
    """Mean IoU against images labelled, by order."""

    def run(self):
        rows = []
        for source in sorted((ROOT / "benchmarks/results/active_learning").glob("*/results.jsonl")):
            self.env.note_dependency(str(source))
            rows += [json.loads(line) for line in source.read_text().splitlines()]
        rows = [row for row in rows if row["part"] == "measure"]
        if not rows:
            return []
        return [svg_node(draw(rows))]


def draw(rows: list[dict]) -> Figure:
    """Draw the runs.

    Parameters
    ----------
    rows : list of dict
        With "set", "labels", "method", "seed", "rounds" and "scores".

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = sorted({(row["set"], row["labels"]) for row in rows}, key=lambda p: (p[1], p[0]))
    figure = Figure(figsize=(7.4, 3.1 * ((len(panels) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (name, labels) in zip(axes, panels):
        here = [row for row in rows if (row["set"], row["labels"]) == (name, labels)]
        full = np.mean([row["scores"][0] for row in here if row["method"] == ALL])
        ax.axhline(full, color="0.6", lw=1)
        ax.axhline(0.9 * full, color="0.6", lw=1, ls=":")
        for method, colour in COLOURS.items():
            runs = [row for row in here if row["method"] == method]
            if runs:
                mean = np.mean([row["scores"] for row in runs], axis=0)
                ax.plot(runs[0]["rounds"], mean, color=colour, lw=1.4, marker=".", label=method)
        ax.set(title=f"{name}, {labels}", xlabel="images labelled", ylabel="mean IoU, held out")
        ax.title.set_fontsize(9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def setup(app):
    """Register the directive."""
    app.add_directive("active-learning-curves", ActiveLearningCurves)
    return {"parallel_read_safe": True}
