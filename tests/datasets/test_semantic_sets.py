"""Sets of images with class maps, on made-up folders in the public layouts: ids, splits, damage."""

import pickle
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from segalgos.datasets import load, locate
from segalgos.datasets._files import to_classes

SHAPE = (6, 8)


def _save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, quality=100)
    return path


def _photo(path, grey=False):
    return _save(path, np.zeros(SHAPE if grey else (*SHAPE, 3), np.uint8))


def _grey(path, ids, values):
    return _save(path, np.array(values, np.uint8)[ids])


# Each writes an image with the class ids (H, W) and gives its label file.


def _cwfid(root, number, ids):
    _photo(root / f"CWFID/images/{number:03}_image.png")
    _save(root / f"CWFID/masks/{number:03}_mask.png", ids == 0)
    colours = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0], [0, 0, 0]], np.uint8)
    return _save(root / f"CWFID/annotations/{number:03}_annotation.png", colours[ids])


def _crackforest(root, number, ids):
    _photo(root / f"CrackForest/image/{number:03}.jpg")
    path = root / f"CrackForest/groundTruth/{number:03}.mat"
    path.parent.mkdir(exist_ok=True)
    values = np.array([1, 2, 3], np.uint8)[ids]
    cell = np.array([[(values, values)]], [("Segmentation", object), ("Boundaries", object)])
    savemat(path, {"groundTruth": cell})
    return path


def _magnetictile(root, number, ids):
    path = root / f"MagneticTile/MT_Crack/Imgs/exp1_num_{number}.png"
    _photo(path.with_suffix(".jpg"), grey=True)
    return _grey(path, ids, [100, 200])


def _wbc(root, number, ids, part=1):
    _photo(root / f"WBC/Dataset {part}/{number:03}.bmp")
    return _grey(root / f"WBC/Dataset {part}/{number:03}.png", ids, [0, 128, 255])


def _isbi2012(root, number, ids):
    _photo(root / f"ISBI2012/train/image/{number}.png", grey=True)
    return _grey(root / f"ISBI2012/train/label/{number}.png", ids, [0, 255])


def _weizmann(root, number, ids):
    _photo(root / f"weizmann_horse_db/rgb/horse{number:03}.jpg")
    return _grey(root / f"weizmann_horse_db/figure_ground/horse{number:03}.jpg", ids, [20, 230])


# Writer, number of classes, the id that stands for -1 if any, and numbers on each side of a cut.
SETS = {
    "cwfid": (_cwfid, 3, 3, {"train": (2, 40), "val": (41, 59), "test": (1, 60)}),
    "crackforest": (_crackforest, 2, 2, {"train": (1, 55), "val": (56, 72), "test": (73, 118)}),
    "magnetictile": (_magnetictile, 2, None, {"train": (5, 254_999), "val": (255_000, 400_000)}),
    "wbc": (_wbc, 3, None, {"train": (1, 90), "val": (91, 120), "test": (121, 300)}),
    "isbi2012": (_isbi2012, 2, None, {"train": (2, 17), "val": (18, 23), "test": (24, 29)}),
    "weizmann": (_weizmann, 2, None, {"train": (1, 171), "val": (172, 200), "test": (201, 328)}),
}
each_set = pytest.mark.parametrize("name", SETS)


@pytest.fixture
def made(tmp_path, name):
    """A folder with one image of every number of `SETS`; label file of each number."""
    write, n_classes, void, numbers = SETS[name]
    ids = _ids(n_classes, void)
    return {n: write(tmp_path, n, ids) for part in numbers.values() for n in part}


def _ids(n_classes, void):
    """Halves of the classes, so that a JPEG keeps them; a void spot if the set has any."""
    ids = np.repeat(np.arange(SHAPE[0]) * n_classes // SHAPE[0], SHAPE[1]).reshape(SHAPE)
    if void is not None:
        ids[1, 2:4] = void
    return ids


@each_set
def test_reads_classes(made, name, tmp_path):
    _, n_classes, void, numbers = SETS[name]
    for split, expected in numbers.items():
        dataset = load(name, split=split, root=tmp_path)
        found = [int(re.findall(r"\d+", sample.name)[-1]) for sample in dataset]
        assert found == list(expected)
    sample = dataset[0]
    ids = _ids(n_classes, void)
    assert np.array_equal(sample.labels, np.where(ids == void, -1, ids))
    assert sample.labels.dtype == np.int32
    assert sample.image.shape[:2] == SHAPE
    assert len(dataset.classes) == n_classes
    assert dataset.task == "semantic"
    assert dataset.views == ("semantic",)
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.labels[1], dataset.labels[1])


@each_set
def test_root_may_be_the_folder_itself(made, name, tmp_path):
    folder = locate(name, tmp_path)
    assert folder.parent == tmp_path
    assert len(load(name, root=folder)) == len(load(name, root=tmp_path)) > 0


@each_set
def test_missing_label_file(made, name, tmp_path):
    number = SETS[name][3]["val"][0]
    made[number].unlink()
    with pytest.raises(ValueError, match=rf"{name}: .*has no label file .*{made[number].name}"):
        load(name, split="val", root=tmp_path)
    assert len(load(name, split="train", root=tmp_path)) == 2


@each_set
def test_damaged_label_file(made, name, tmp_path):
    number = SETS[name][3]["val"][0]
    made[number].write_bytes(made[number].read_bytes()[:40])
    dataset = load(name, split="val", root=tmp_path)
    with pytest.raises(ValueError, match=rf"{made[number].name} could not be"):
        dataset[0]
    assert dataset[1].labels.shape == SHAPE


@each_set
def test_label_file_of_another_size(made, name, tmp_path):
    write, n_classes, void, numbers = SETS[name]
    path = write(tmp_path, numbers["val"][0], _ids(n_classes, void)[:, :5])
    with pytest.raises(ValueError, match=rf"{path.name} has size \(6, 5\), its image .*\(6, 8\)"):
        load(name, split="val", root=tmp_path)[0]


@each_set
def test_missing_split(made, name, tmp_path):
    for number in SETS[name][3]["val"]:
        for path in tmp_path.rglob(f"*{number}*.*"):
            path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no 'val' part, only train"):
        load(name, split="val", root=tmp_path)
    with pytest.raises(ValueError, match="split"):
        load(name, split="all", root=tmp_path)


@each_set
def test_missing_images(made, name, tmp_path):
    if name in ("magnetictile", "wbc"):  # images and masks share a folder
        for path in [*tmp_path.rglob("*.jpg"), *tmp_path.rglob("*.bmp")]:
            path.unlink()
    else:
        for folder in ("images", "image", "rgb"):
            for path in tmp_path.rglob(folder):
                shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match="holds no 'train' part, only none"):
        load(name, root=tmp_path)


@pytest.mark.parametrize("name", ["cwfid", "crackforest", "wbc", "isbi2012"])
def test_values_without_a_meaning_are_refused(made, name, tmp_path):
    path = made[SETS[name][3]["val"][0]]
    if path.suffix == ".mat":
        path = _crackforest(tmp_path, 56, np.zeros(SHAPE, int))
        values = np.full(SHAPE, 9, np.uint8)
        cell = np.array([[(values, values)]], [("Segmentation", object), ("Boundaries", object)])
        savemat(path, {"groundTruth": cell})
    else:
        _save(path, np.full((*SHAPE, 3) if name == "cwfid" else SHAPE, 9, np.uint8))
    with pytest.raises(ValueError, match=rf"{path.name} holds the value (9|592137), expected only"):
        load(name, split="val", root=tmp_path)[0]


def test_name_without_a_number(tmp_path):
    _isbi2012(tmp_path, 3, _ids(2, None))
    _photo(tmp_path / "ISBI2012/train/image/cover.png")
    with pytest.raises(ValueError, match=r"cover\.png has no number in its name"):
        load("isbi2012", root=tmp_path)


def test_cwfid_needs_masks_and_colours(tmp_path):
    path = _cwfid(tmp_path, 2, _ids(3, 3))
    _save(path, np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"002_annotation\.png has shape \(6, 8\)"):
        load("cwfid", root=tmp_path)[0]
    _cwfid(tmp_path, 2, _ids(3, 3))
    mask = _save(tmp_path / "CWFID/masks/002_mask.png", np.zeros((5, 8), bool))
    with pytest.raises(ValueError, match=r"002_mask\.png has size \(5, 8\)"):
        load("cwfid", root=tmp_path)[0]
    mask.unlink()
    with pytest.raises(ValueError, match=r"has no label file .*002_mask\.png"):
        load("cwfid", root=tmp_path)


def test_cwfid_number_of_both_parts_only_trains(tmp_path):
    for number in (1, 28):
        _cwfid(tmp_path, number, _ids(3, 3))
    assert [s.name for s in load("cwfid", root=tmp_path)] == ["028_image"]
    assert [s.name for s in load("cwfid", split="test", root=tmp_path)] == ["001_image"]


def test_magnetictile_kinds(tmp_path):
    ids = _ids(2, None)
    _magnetictile(tmp_path, 7, ids)
    folder = tmp_path / "MagneticTile"
    for kind, defects in (("Uneven", ids), ("Free", np.zeros_like(ids))):
        number = {"Uneven": 8, "Free": 9}[kind]
        _photo(folder / f"MT_{kind}/Imgs/exp2_num_{number}.jpg", grey=True)
        _grey(folder / f"MT_{kind}/Imgs/exp2_num_{number}.png", defects, [0, 255])
    plain = load("magnetictile", root=tmp_path)
    assert [labels.max() for labels in plain.labels] == [1, 1, 0]
    named = load("magnetictile", root=tmp_path, kinds=True)
    assert named.classes == ("intact", "blowhole", "break", "crack", "fray", "uneven")
    assert [labels.max() for labels in named.labels] == [3, 5, 0]
    assert all(np.array_equal(a > 0, b > 0) for a, b in zip(plain.labels, named.labels))


def test_wbc_joins_its_two_parts(tmp_path):
    ids = _ids(3, None)
    _wbc(tmp_path, 1, ids)
    for number in (1, 10, 11):
        _wbc(tmp_path, number, ids, part=2)
    assert [s.name for s in load("wbc", root=tmp_path)] == ["1-001", "2-001", "2-010"]
    assert [s.name for s in load("wbc", root=tmp_path, part=2)] == ["2-001", "2-010"]
    assert [s.name for s in load("wbc", split="val", root=tmp_path, part=2)] == ["2-011"]
    with pytest.raises(ValueError, match="wbc: part is 3"):
        load("wbc", root=tmp_path, part=3)
    shutil.rmtree(tmp_path / "WBC/Dataset 2")
    with pytest.raises(FileNotFoundError, match="holds Dataset 2"):
        load("wbc", root=tmp_path, part=2)
    with pytest.raises(FileNotFoundError, match="Dataset 1 holds no 'val' part"):
        load("wbc", split="val", root=tmp_path)


def test_isbi2012_counts_as_numbers_do(tmp_path):
    for number in (10, 9):
        _isbi2012(tmp_path, number, _ids(2, None))
    assert [s.name for s in load("isbi2012", root=tmp_path)] == ["9", "10"]


def test_to_classes(tmp_path):
    values = np.array([[5, 1], [1, 9]])
    ids = to_classes("toy", tmp_path, values, {9: 2, 1: 0, 5: -1})
    assert ids.dtype == np.int32
    assert ids.tolist() == [[-1, 0], [0, 2]]
    for strange in (0, 4, 10):
        with pytest.raises(ValueError, match=rf"holds the value {strange}, expected only 1, 5, 9"):
            to_classes("toy", tmp_path, np.array([[1, strange]]), {9: 2, 1: 0, 5: -1})
