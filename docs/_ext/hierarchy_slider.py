"""A directive that lets readers walk a hierarchy of regions: pictures under a slider.

``.. hierarchy-slider::`` cuts the hierarchy of a picture of scikit-image at several numbers of
regions and puts the results on the page, one shown at a time. They are part of the page, so that
it works without a connection; without scripts the first shown stays.
"""

import base64
import html
import io

import numpy as np
from docutils import nodes
from PIL import Image
from skimage import data
from sphinx.util.docutils import SphinxDirective

import segalgos
from segalgos.plot import overlay

NUMBERS = (1000, 500, 250, 120, 60, 40, 30, 20, 15, 10, 8, 6, 5, 4, 3, 2)
SHOWN = 8  # at first
SHOW = (
    "const figure = this.closest('figure'), at = Number(this.value);"
    "figure.querySelectorAll('img').forEach((image, i) => { image.hidden = i !== at; });"
    "figure.querySelector('output').textContent = figure.querySelectorAll('img')[at].alt;"
)


class HierarchySlider(SphinxDirective):
    """Cuts of one hierarchy, and its map of contours above the level of each."""

    def run(self):
        return [nodes.raw("", draw(), format="html")]


def draw() -> str:
    """Write the figure.

    Returns
    -------
    str
        HTML with the pictures in it.
    """
    image = data.chelsea()
    hierarchy = segalgos.UCMSegmenter(scales=(1, 0.5)).hierarchy(image)
    contours = hierarchy.ucm(double_sized=False)
    pictures, texts = [], []
    for n_segments in NUMBERS:
        labels = hierarchy.cut(n_segments=n_segments)
        level = hierarchy.levels[hierarchy.n_regions - n_segments - 1]
        above = np.where(contours > level, contours / contours.max(), 0)
        lines = (255 * (1 - np.sqrt(above))).astype(np.uint8)
        lines = np.repeat(lines[..., None], 3, axis=-1)
        pictures.append(np.hstack([overlay(image, labels, alpha=0.35), lines]))
        texts.append(f"{n_segments} regions, cut at level {level:.1f}")
    images = [
        f'<img src="data:image/jpeg;base64,{_encode(picture)}" alt="{html.escape(text)}"'
        f"{'' if i == SHOWN else ' hidden'}>"
        for i, (picture, text) in enumerate(zip(pictures, texts, strict=True))
    ]
    return (
        '<figure class="hierarchy-slider">'
        + "\n".join(images)
        + f'<label>Fewer regions <input type="range" min="0" max="{len(texts) - 1}" '
        f'value="{SHOWN}" oninput="{html.escape(SHOW)}"></label>'
        f"<output>{html.escape(texts[SHOWN])}</output></figure>"
    )


def _encode(picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


def setup(app):
    """Register the directive."""
    app.add_directive("hierarchy-slider", HierarchySlider)
    return {"parallel_read_safe": True}
