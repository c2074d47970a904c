"""A directive that draws how the losses of measured trainings fell.

``.. learning-curves:: camvid`` reads ``benchmarks/results/training/camvid/results.jsonl``, as
``benchmarks/training/camvid.py`` wrote it, and draws a line for each run; without rows, nothing.
"""

import json
from pathlib import Path

from figures import svg_node
from matplotlib.figure import Figure
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


class LearningCurves(SphinxDirective):
    """Loss against minutes, one colour a net and length of training, one line a seed."""

    required_arguments = 1

    def run(self):
        (name,) = self.arguments
        source = ROOT / "benchmarks" / "results" / "training" / name / "results.jsonl"
        self.env.note_dependency(str(source))
        if not source.exists():
            return []
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        return [svg_node(draw(rows))]


def draw(rows: list[dict]) -> Figure:
    """Draw the runs.

    Parameters
    ----------
    rows : list of dict
        With "net", "minutes", "seed" and "history", a list of rows with "seconds" and "loss".

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    ax = figure.subplots()
    colours: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["net"], row["minutes"], row["seed"])):
        label = f"{row['net']}, {row['minutes']:g} min"
        known = label in colours
        colour = colours.setdefault(label, COLOURS[len(colours) % len(COLOURS)])
        minutes = [step["seconds"] / 60 for step in row["history"]]
        if "epochs" in row:  # as much work, beside other programs
            minutes = [row["minutes"] * step["steps"] / row["steps"] for step in row["history"]]
        losses = [step["loss"] for step in row["history"]]
        ax.plot(minutes, losses, color=colour, lw=1.2, label=None if known else label)
    ax.set(xlabel="minutes", ylabel="loss on crops, mean of an epoch", ylim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


def setup(app):
    """Register the directive."""
    app.add_directive("learning-curves", LearningCurves)
    return {"parallel_read_safe": True}
