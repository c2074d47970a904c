"""Sets of single objects for interactive methods, made up and real."""

import numpy as np
import pytest
from PIL import Image

from segalgos.datasets import load, locate

SHAPE = (6, 8)


def _save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def _ids():
    ids = np.zeros(SHAPE, int)
    ids[2:5, 3:6] = 1
    return ids


def _grabcut(root, name, suffix=".jpg"):
    _save(root / f"GrabCut/data_GT/{name}{suffix}", np.zeros((*SHAPE, 3)))
    ids = _ids()
    ids[2:5, 5] = -1
    mask = np.select([ids == 1, ids == -1], [255, 128], 0)
    return _save(root / f"GrabCut/boundary_GT/{name}.bmp", mask), ids


def _berkeley(root, name):
    _save(root / f"Berkeley/images/{name}.jpg", np.zeros((*SHAPE, 3)))
    mask = np.repeat(255 * _ids()[..., None], 3, axis=-1)
    mask[1, 1] = 255, 0, 130  # magenta, whose mean is just above one half
    mask[1, 2] = 255, 0, 120
    ids = _ids()
    ids[1, 1] = 1
    return _save(root / f"Berkeley/masks/{name}.png", mask), ids


SETS = {"grabcut": _grabcut, "berkeley": _berkeley}
each_set = pytest.mark.parametrize("name", SETS)


@each_set
def test_reads_objects(name, tmp_path):
    _, ids = SETS[name](tmp_path, "239007a")
    SETS[name](tmp_path, "12003")
    dataset = load(name, split="test", root=tmp_path)
    assert [sample.name for sample in dataset] == ["12003", "239007a"]
    np.testing.assert_array_equal(dataset[1].labels, ids)
    assert dataset[0].labels.dtype == np.int32
    assert dataset[0].image.shape == (*SHAPE, 3)
    assert dataset.classes == ("background", "object")
    assert len(load(name, split="test", root=locate(name, tmp_path))) == 2


@each_set
def test_damage_is_named(name, tmp_path):
    path, _ = SETS[name](tmp_path, "x")
    with pytest.raises(ValueError, match=f"{name}: split is 'train', expected one of 'test'"):
        load(name, split="train", root=tmp_path)
    _save(path, np.zeros((5, 8)))
    with pytest.raises(ValueError, match=rf"{path.name} has size \(5, 8\), its image .*\(6, 8\)"):
        load(name, split="test", root=tmp_path)[0]
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match=rf"{path.name}"):
        load(name, split="test", root=tmp_path)[0]
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name}: .*has no label file .*{path.name}"):
        load(name, split="test", root=tmp_path)
    for image in tmp_path.rglob("x.jpg"):
        image.unlink()
    with pytest.raises(FileNotFoundError, match="holds no 'test' part, only none"):
        load(name, split="test", root=tmp_path)


def test_grabcut_takes_any_kind_of_image_and_no_other_value(tmp_path):
    _grabcut(tmp_path, "a", ".JPG")
    path, _ = _grabcut(tmp_path, "b", ".bmp")
    assert len(load("grabcut", split="test", root=tmp_path)) == 2
    _save(path, np.full(SHAPE, 64))
    with pytest.raises(ValueError, match=r"b\.bmp holds the value 64, expected only 0, 128, 255"):
        load("grabcut", split="test", root=tmp_path)[1]


# Objects of the parts that are here, and how many pixels are -1, background and object.
REAL = {
    "grabcut": (25, (32_078, 3_509_895, 934_447)),
    "berkeley": (57, (0, 7_249_934, 1_550_923)),
}


@pytest.mark.parametrize("name", REAL)
def test_real(data_root, name):
    dataset = load(name, split="test", root=data_root)
    n_objects, pixels = REAL[name]
    assert len(dataset) == n_objects
    counts = np.zeros(3, int)
    for sample in dataset:
        assert sample.image.shape[:2] == sample.labels.shape
        counts += np.bincount(sample.labels.ravel() + 1, minlength=3)
        assert (sample.labels == 1).any()
    assert counts.tolist() == list(pixels)
