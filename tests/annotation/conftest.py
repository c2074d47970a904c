"""Small pictures to annotate, and a session on them."""

import numpy as np
import pytest
from PIL import Image

from segalgos.annotation.project import Project


def make_scene(shape=(120, 160), seed=0):
    """A bright disc on a dark, noisy ground; the picture and the disc."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    disc = np.hypot(rows - 0.5 * shape[0], cols - 0.5 * shape[1]) < 0.25 * shape[0]
    pixels = rng.normal(60, 8, (*shape, 3))
    pixels[disc] += (120, 60, 10)
    return pixels.clip(0, 255).astype(np.uint8), disc


@pytest.fixture
def scene():
    return make_scene


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(make_scene(seed=i)[0]).save(folder / f"picture{i}.png")
    return folder


@pytest.fixture
def project(tmp_path, images):
    with Project(tmp_path / "dataset", images, ["disc", "ground"]) as made:
        yield made
