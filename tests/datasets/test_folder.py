"""folder: layouts, what values of masks mean, and every error."""

import json

import numpy as np
import pytest
from PIL import Image

from segalgos import write_labels
from segalgos.datasets import load, locate

SHAPE = (6, 8)


def _write(root, masks, *, images="images", to="masks", ending="", suffix=".png"):
    """Write one black image and one mask for each entry of ``masks``."""
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / to).mkdir(parents=True, exist_ok=True)
    for stem, mask in masks.items():
        mask = np.asarray(mask)
        Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(root / images / f"{stem}.jpg")
        path = root / to / f"{stem}{ending}{suffix}"
        if mask.ndim == 3 or suffix == ".jpg":
            Image.fromarray(mask.astype(np.uint8)).save(path)
        else:
            write_labels(path, mask)
    return root


def _mask(*values):
    """A mask in which the values stand in turn."""
    return np.resize(values, SHAPE)


def _colours(*colours):
    return np.resize(np.array(colours), (*SHAPE, 3))


def _all(root, **options):
    return load("folder", root=root, split="all", **options)


@pytest.mark.parametrize("to", ["masks", "labels", "annotations"])
@pytest.mark.parametrize("ending", ["", "_mask", "_label", "-labels", "_gt", "_annotation"])
def test_names_of_masks(tmp_path, to, ending):
    _write(tmp_path, {"a": _mask(0, 1), "b": _mask(1, 2)}, to=to, ending=ending)
    dataset = _all(tmp_path)
    assert [s.name for s in dataset] == ["a", "b"]
    assert np.array_equal(dataset.labels[1], _mask(1, 2))
    assert dataset.labels[0].dtype == np.int32
    assert dataset.views == ("semantic",)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_suffixes_of_masks(tmp_path, suffix):
    _write(tmp_path, {"a": _mask(0, 1, 2), "a_mask": _mask(0, 1, 2)}, suffix=suffix)
    (tmp_path / "images" / "a_mask.jpg").unlink()
    (tmp_path / "masks" / f"a_mask{suffix}").unlink()
    (tmp_path / "masks" / "readme.txt").write_text("not a mask")
    assert np.array_equal(_all(tmp_path).labels[0], _mask(0, 1, 2))


def test_endings_of_images(tmp_path):
    _write(tmp_path, {"001_image": _mask(0, 1)})
    (tmp_path / "masks" / "001_image.png").rename(tmp_path / "masks" / "001_mask.png")
    assert _all(tmp_path)[0].name == "001_image"


def test_split_folders(tmp_path):
    _write(tmp_path / "train", {"a": _mask(0, 1), "b": _mask(0, 1)})
    _write(tmp_path / "test", {"c": _mask(0, 7)}, to="labels")
    assert [s.name for s in load("folder", root=tmp_path)] == ["a", "b"]
    test = load("folder", root=tmp_path, split="test")
    # Values of all splits together make the classes.
    assert test.classes == ("value 0", "value 1", "value 7")
    assert np.array_equal(test.labels[0], _mask(0, 2))
    assert len(_all(tmp_path)) == 3
    with pytest.raises(ValueError, match="split is 'val', expected one of 'train', 'test', 'all'"):
        load("folder", root=tmp_path, split="val")


def test_split_by_hash_does_not_move(tmp_path):
    stems = [f"image_{k:02d}" for k in range(40)]
    _write(tmp_path, {stem: _mask(0, 1) for stem in stems})
    train, test = (
        {s.name for s in load("folder", root=tmp_path, split=p)} for p in ("train", "test")
    )
    assert train | test == set(stems)
    assert not train & test
    assert 22 <= len(train) <= 34
    for stem in stems[::2]:
        (tmp_path / "images" / f"{stem}.jpg").unlink()
    rest = set(stems[1::2])
    assert {s.name for s in load("folder", root=tmp_path)} == train & rest


@pytest.mark.parametrize("stems", [("a", "b"), ("m1", "m2"), ("x", "y"), ("p", "q"), ("01", "02")])
def test_split_of_two_has_one_each(tmp_path, stems):
    _write(tmp_path, {stem: _mask(0, 1) for stem in stems})
    assert [len(load("folder", root=tmp_path, split=s)) for s in ("train", "test")] == [1, 1]


def test_one_image_trains(tmp_path):
    _write(tmp_path, {"only": _mask(0, 1)})
    assert len(load("folder", root=tmp_path)) == 1
    with pytest.raises(ValueError, match="too few images for a 'test' part"):
        load("folder", root=tmp_path, split="test")


# ------------------------------------------------------------------------- meaning of values


@pytest.mark.parametrize(
    ("values", "options", "classes", "ids"),
    [
        ((0, 1, 2), {}, ("value 0", "value 1", "value 2"), (0, 1, 2)),
        ((0, 255), {}, ("value 0", "value 255"), (0, 1)),
        ((0, 128, 255), {}, ("value 0", "value 128", "value 255"), (0, 1, 2)),
        ((0, 1, 255), {}, ("value 0", "value 1"), (0, 1, -1)),
        ((1, 2, 255), {}, ("value 1", "value 2", "value 255"), (0, 1, 2)),
        ((0, 2, 255), {"ignore_value": 255}, ("value 0", "value 2"), (0, 1, -1)),
        ((0, 1, 11), {"ignore_value": 11}, ("value 0", "value 1"), (0, 1, -1)),
        ((0, 1, 255), {"ignore_value": 0}, ("value 1", "value 255"), (-1, 0, 1)),
        ((7, 1000, 40000), {}, ("value 7", "value 1000", "value 40000"), (0, 1, 2)),
    ],
)
def test_values_become_ids(tmp_path, values, options, classes, ids):
    _write(tmp_path, {"a": _mask(*values)})
    dataset = _all(tmp_path, **options)
    assert dataset.classes == classes
    assert np.array_equal(dataset.labels[0], _mask(*ids))
    # Grey masks saved as RGB mean the same.
    if max(values) < 256:
        rgb = np.repeat(_mask(*values)[..., None], 3, axis=2)
        _write(tmp_path, {"a": rgb})
        again = _all(tmp_path, **options)
        assert again.classes == classes
        assert np.array_equal(again.labels[0], _mask(*ids))


def test_colours_become_classes(tmp_path):
    red, green, black = (255, 0, 0), (0, 255, 0), (0, 0, 0)
    _write(tmp_path, {"a": _colours(black, red), "b": _colours(green, black), "c": _colours(black)})
    dataset = _all(tmp_path)
    assert dataset.classes == ("#000000", "#00ff00", "#ff0000")
    assert np.array_equal(dataset.labels[0], _mask(0, 2))
    assert np.array_equal(dataset.labels[1], _mask(1, 0))
    assert not dataset.labels[2].any()
    void = _all(tmp_path, ignore_value="#000000")
    assert void.classes == ("#00ff00", "#ff0000")
    assert np.array_equal(void.labels[0], _mask(-1, 1))


def test_palette_gives_its_indices(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1, 2)})
    picture = Image.fromarray(_mask(0, 1, 2).astype(np.uint8), mode=None).convert("P")
    picture.putdata(_mask(0, 1, 2).ravel().tolist())
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "masks" / "a.png")
    dataset = _all(tmp_path)
    assert dataset.classes == ("value 0", "value 1", "value 2")
    assert np.array_equal(dataset.labels[0], _mask(0, 1, 2))


def test_names_from_files(tmp_path):
    _write(tmp_path, {"a": _mask(0, 2)})
    (tmp_path / "classes.txt").write_text("soil\ncrop\nweed\n")
    dataset = _all(tmp_path)  # ids below the number of names are class ids already
    assert dataset.classes == ("soil", "crop", "weed")
    assert np.array_equal(dataset.labels[0], _mask(0, 2))
    _write(tmp_path, {"a": _mask(0, 2, 255)})
    assert np.array_equal(_all(tmp_path).labels[0], _mask(0, 2, -1))
    (tmp_path / "classes.txt").write_text("soil\nplant\n")
    _write(tmp_path, {"a": _mask(0, 255)})
    assert np.array_equal(_all(tmp_path).labels[0], _mask(0, 1))
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.json").write_text(json.dumps({"255": "plant", "0": "soil", "9": "rock"}))
    dataset = _all(tmp_path)
    assert dataset.classes == ("soil", "rock", "plant")
    assert np.array_equal(dataset.labels[0], _mask(0, 2))
    (tmp_path / "classes.json").write_text(json.dumps({"#ff0000": "car", "#000000": "road"}))
    _write(tmp_path, {"a": _colours((255, 0, 0), (0, 0, 0))})
    dataset = _all(tmp_path)
    assert dataset.classes == ("road", "car")
    assert np.array_equal(dataset.labels[0], _mask(1, 0))


def test_threshold_makes_two_classes(tmp_path):
    grey = np.linspace(0, 255, 48).reshape(SHAPE).astype(np.uint8)
    _write(tmp_path, {"a": grey}, suffix=".jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is a JPEG.*threshold=127"):
        _all(tmp_path)
    dataset = _all(tmp_path, threshold=127)
    assert dataset.classes == ("up to 127", "above 127")
    assert np.mean(dataset.labels[0] == (grey > 127)) > 0.9
    with pytest.raises(ValueError, match="leave one out"):
        _all(tmp_path, threshold=127, ignore_value=3)
    with pytest.raises(ValueError, match="leave one out"):
        _all(tmp_path, threshold=127, task="instance")


def test_instances(tmp_path):
    ids = np.zeros(SHAPE, int)
    ids[:2, :3], ids[3:, 5:], ids[5, 0] = 300, 7, 99
    _write(tmp_path, {"a": ids})
    dataset = _all(tmp_path, task="instance", ignore_value=99)
    assert (dataset.task, dataset.views) == ("instance", ("semantic", "instance"))
    assert dataset.classes == ("background", "object")
    objects = dataset.instances[0]
    assert objects.masks.sum(axis=(1, 2)).tolist() == [9, 6]
    assert objects.classes.tolist() == [1, 1]
    assert dataset.labels[0][5, 0] == -1
    assert np.array_equal(dataset.labels[0] == 1, objects.masks.any(axis=0))
    # Colours: black is background, each other one an object.
    _write(tmp_path, {"a": _colours((0, 0, 0), (1, 2, 3), (9, 9, 9))})
    assert len(_all(tmp_path, task="instance").instances[0]) == 2
    # Without any background nothing becomes background.
    _write(tmp_path, {"a": _mask(4, 5)})
    assert len(_all(tmp_path, task="instance").instances[0]) == 2


def test_partitions(tmp_path):
    _write(tmp_path, {"a": _mask(3, 9, 1)})
    dataset = _all(tmp_path, task="partition")
    assert np.array_equal(dataset.annotations[0][0], _mask(1, 2, 0))
    assert dataset.labels is None


# ------------------------------------------------------------------------------------ errors


def test_no_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder 'images'"):
        load("folder", root=tmp_path)
    with pytest.raises(ValueError, match="root is None"):
        load("folder")
    assert locate("folder", tmp_path) is None
    assert locate("folder") is None
    _write(tmp_path, {"a": _mask(0, 1)})
    assert locate("folder", tmp_path) == tmp_path
    _write(tmp_path / "train", {"a": _mask(0, 1)})
    with pytest.raises(ValueError, match="has both 'images' and 'train/images'"):
        load("folder", root=tmp_path)


def test_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        load("folder", root=tmp_path)


def test_no_mask_folder_or_two(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    (tmp_path / "labels").mkdir()
    with pytest.raises(FileNotFoundError, match="has masks and labels, expected one"):
        load("folder", root=tmp_path)
    (tmp_path / "labels").rmdir()
    (tmp_path / "masks").rename(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="has no folder of masks"):
        load("folder", root=tmp_path)


def test_image_without_mask_or_with_two(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1), "b": _mask(0, 1)})
    write_labels(tmp_path / "masks" / "b_gt.png", _mask(0, 1))
    with pytest.raises(ValueError, match=r"b\.jpg has 2 masks, b\.png and b_gt\.png"):
        _all(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    (tmp_path / "masks" / "b_gt.png").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg has no mask"):
        _all(tmp_path)


def test_two_images_of_one_name(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=r"2 images in .* are named 'a'"):
        _all(tmp_path)


def test_size_mismatch_names_both(tmp_path):
    _write(tmp_path, {"a": np.resize((0, 1), (5, 8))})
    dataset = _all(tmp_path)
    with pytest.raises(ValueError, match=r"a\.png has size \(5, 8\).*a\.jpg has \(6, 8\)"):
        dataset[0]


def test_damaged_mask(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    path = tmp_path / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"a\.png"):
        _all(tmp_path)


def test_mask_that_changed(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    dataset = _all(tmp_path)
    write_labels(tmp_path / "masks" / "a.png", _mask(0, 3))
    with pytest.raises(ValueError, match=r"a\.png changed since"):
        dataset[0]


def test_antialiased_masks(tmp_path):
    rng = np.random.default_rng(0)
    _write(tmp_path, {f"m{k}": rng.integers(0, 256, SHAPE) for k in range(30)})
    with pytest.raises(ValueError, match=r"look antialiased.*threshold=127"):
        _all(tmp_path)
    assert _all(tmp_path, threshold=127).labels[0].max() == 1
    assert len(_all(tmp_path, task="partition")) == 30
    _write(tmp_path, {f"m{k}": rng.integers(0, 256, (*SHAPE, 3)) for k in range(30)})
    with pytest.raises(ValueError, match="look antialiased"):
        _all(tmp_path)


def test_many_classes_are_fine(tmp_path):
    values = np.arange(151)
    _write(tmp_path, {f"m{k}": np.resize(values[48 * k :], SHAPE) for k in range(4)})
    assert len(_all(tmp_path).classes) == 151


def test_mixed_masks(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    _write(tmp_path, {"b": _colours((255, 0, 0))})
    with pytest.raises(ValueError, match=r"a\.png and .*b\.png: one holds colours"):
        _all(tmp_path)


def test_transparent_mask(tmp_path):
    _write(tmp_path, {"a": np.resize((10, 20, 30, 40), (*SHAPE, 4))})
    with pytest.raises(ValueError, match=r"a\.png has shape \(6, 8, 4\)"):
        _all(tmp_path)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"classes.txt": "one\ntwo\n"}, "names 2 classes, its masks hold 3 values, 0, 5, 9"),
        ({"classes.json": '{"0": "a", "5": "b"}'}, "hold value 9, which .*json does not name"),
        ({"classes.json": "[oops"}, "is no JSON"),
        ({"classes.json": "3"}, "neither a list nor an object"),
        ({"classes.json": '{"red": "a"}'}, "'red', expected an integer or '#rrggbb'"),
        ({"classes.txt": "a\nb\nc", "classes.json": "[1]"}, "keep one"),
    ],
)
def test_wrong_class_files(tmp_path, files, match):
    _write(tmp_path, {"a": _mask(0, 5, 9)})
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        _all(tmp_path)


def test_wrong_ignore_values(tmp_path):
    _write(tmp_path, {"a": _mask(0, 1)})
    with pytest.raises(ValueError, match="the masks hold integers"):
        _all(tmp_path, ignore_value="#ff0000")
    with pytest.raises(ValueError, match="expected an integer or '#rrggbb'"):
        _all(tmp_path, ignore_value="red")
    with pytest.raises(ValueError, match="task is 'classes'"):
        _all(tmp_path, task="classes")
    _write(tmp_path, {"a": _mask(7)})
    with pytest.raises(ValueError, match="are void"):
        _all(tmp_path, ignore_value=7)
