"""Small data sets for the tests of what looks at whole data sets."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from segalgos import rle
from segalgos.formats import Annotation, Part, Scene
from segalgos.formats.convert import write

SIZE = (40, 48)


def picture(seed, size=SIZE):
    """A random smooth picture: no two are alike."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def square(top, left, side=8):
    mask = np.zeros((1, *SIZE), bool)
    mask[0, top : top + side, left : left + side] = True
    return rle.encode(mask).counts


def healthy(folder, layout="coco", n_images=3):
    """A set of pictures with two objects each, in two parts."""
    parts = {}
    for number, split in enumerate(("train", "val")):
        scenes = []
        for i in range(n_images):
            path = folder.parent / "pictures" / f"{split}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(100 * number + i).save(path)
            objects = (Annotation(square(3, 4), 0), Annotation(square(20, 20, 12), 1))
            scenes.append(Scene(path.stem, SIZE, objects, path))
        parts[split] = Part(("person", "car"), scenes, as_it_is)
    write(parts, folder, layout)
    return folder


def as_it_is(scene):
    return scene


def masks_folder(folder, values=(0, 1, 2)):
    for split, first in (("train", 0), ("val", 50)):
        for i in range(3):
            for place in ("images", "masks"):
                (folder / split / place).mkdir(parents=True, exist_ok=True)
            picture(first + i).save(folder / split / "images" / f"{split}{i}.png")
            mask = np.resize(np.repeat(values, 5), SIZE).astype(np.uint8)
            Image.fromarray(mask).save(folder / split / "masks" / f"{split}{i}.png")
    return folder


@pytest.fixture
def sets():
    """What makes the small sets."""
    return SimpleNamespace(SIZE=SIZE, healthy=healthy, masks_folder=masks_folder, picture=picture)
