"""Figures as nodes of a page."""

import io

from docutils import nodes
from matplotlib.figure import Figure


def svg_node(figure: Figure) -> nodes.raw:
    """Draw a figure into the page itself.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    docutils.nodes.raw
    """
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    svg = drawing.getvalue()
    return nodes.raw("", svg[svg.index("<svg") :], format="html")
