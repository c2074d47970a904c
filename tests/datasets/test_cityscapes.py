"""Cityscapes, on a made-up folder in the official layout."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from segalgos.cityscapes_labels import CLASSES, LABELS
from segalgos.datasets import cityscapes, load, locate

SHAPE = (6, 8)
# Every label id, and a few twice.
IDS = np.arange(48).reshape(SHAPE) % 34
TRAIN_IDS = np.array([CLASSES.index(c.name) if c.scored else -1 for c in LABELS])[IDS]


def _save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def make_scene(root, split, name, kind="gtFine", ids=IDS):
    """Write the files of one scene; its label file."""
    city = name.split("_")[0]
    _save(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", np.zeros((*SHAPE, 3), "u1"))
    folder = root / kind / split / city
    instances = np.where(ids >= 24, ids * 1000 + 3, ids)
    _save(folder / f"{name}_{kind}_instanceIds.png", np.uint16(instances))
    _save(folder / f"{name}_{kind}_color.png", np.zeros((*SHAPE, 4), np.uint8))
    return _save(folder / f"{name}_{kind}_labelIds.png", np.uint8(ids))


@pytest.fixture
def root(tmp_path):
    """A folder ``cityscapes`` in the folder of data sets."""
    root = tmp_path / "cityscapes"
    make_scene(root, "train", "zurich_000001_000019")
    make_scene(root, "train", "bad-city_000010_000019")
    make_scene(root, "train", "bad-city_000002_000019")
    make_scene(root, "val", "ulm_000000_000294")
    make_scene(root, "test", "bonn_000000_000019", ids=np.full(SHAPE, 3))
    make_scene(root, "train", "zurich_000001_000019", kind="gtCoarse", ids=np.zeros_like(IDS))
    make_scene(root, "train_extra", "wuerzburg_000000_000019", kind="gtCoarse")
    return root


def test_reads_train_ids(root):
    for place in (root, root.parent):
        assert locate("cityscapes", place) == root
        train = load("cityscapes", root=place)
        # By city, then by name.
        names = ["bad-city_000002_000019", "bad-city_000010_000019", "zurich_000001_000019"]
        assert [sample.name for sample in train] == names
    sample = train[0]
    assert sample.image.shape == (*SHAPE, 3)
    assert sample.labels.dtype == np.int32
    np.testing.assert_array_equal(sample.labels, TRAIN_IDS)
    assert train.classes == CLASSES
    assert train.views == ("semantic",)
    again = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(again.labels[1], TRAIN_IDS)


def test_labels_of_test_are_secret(root):
    assert (load("cityscapes", split="test", root=root).labels[0] == -1).all()


def test_coarse_annotations(root):
    train = load("cityscapes", root=root, annotations="coarse", split="train_extra")
    assert [sample.name for sample in train] == ["wuerzburg_000000_000019"]
    np.testing.assert_array_equal(train.labels[0], TRAIN_IDS)
    # Images that have no coarse labels are reported, not left out.
    with pytest.raises(ValueError, match=r"no label file .*_gtCoarse_labelIds\.png"):
        load("cityscapes", root=root, annotations="coarse")
    with pytest.raises(ValueError, match=r"'train_extra' has no fine annotations.*'coarse'"):
        load("cityscapes", root=root, split="train_extra")
    with pytest.raises(ValueError, match=r"'test' has no coarse annotations.*'fine'"):
        load("cityscapes", root=root, split="test", annotations="coarse")
    with pytest.raises(ValueError, match="annotations is 'polygons'"):
        load("cityscapes", root=root, annotations="polygons")


def test_instance_ids_lie_beside_the_labels(root):
    maps = cityscapes.instance_ids(split="train", root=root)
    labels = load("cityscapes", root=root).labels
    assert len(maps) == len(labels) == len(maps[:]) == 3
    np.testing.assert_array_equal(maps[1], np.where(IDS >= 24, IDS * 1000 + 3, IDS))
    (file,) = cityscapes.label_files(root=root)
    cityscapes.instance_file(file).unlink()
    with pytest.raises(ValueError, match=r"has no label file .*_gtFine_instanceIds\.png"):
        cityscapes.instance_ids(root=root)


def test_images_are_not_needed_to_score(root):
    shutil.rmtree(root / "leftImg8bit")
    assert [path.name for path in cityscapes.label_files(root=root)] == [
        "ulm_000000_000294_gtFine_labelIds.png"
    ]
    assert len(cityscapes.instance_ids(root=root)) == 1
    with pytest.raises(FileNotFoundError, match="holds no 'train' part, only none"):
        load("cityscapes", root=root)


def test_what_is_missing_or_damaged(root):
    label_file = make_scene(root, "val", "ulm_000001_000294")
    dataset = load("cityscapes", split="val", root=root)
    # Train ids under the name of label ids.
    _save(label_file, np.where(TRAIN_IDS < 0, 255, TRAIN_IDS).astype(np.uint8))
    with pytest.raises(ValueError, match=r"ulm_000001_000294_gtFine_labelIds\.png: .*holds 255"):
        dataset[1]
    _save(label_file, np.zeros((5, 8), np.uint8))
    with pytest.raises(ValueError, match=r"labelIds\.png has size \(5, 8\), its image .*\(6, 8\)"):
        dataset[1]
    label_file.write_bytes(label_file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"labelIds\.png could not be"):
        dataset[1]
    label_file.unlink()
    with pytest.raises(ValueError, match=r"has no label file .*ulm_000001_000294_gtFine"):
        load("cityscapes", split="val", root=root)
    shutil.rmtree(root / "leftImg8bit/val")
    with pytest.raises(FileNotFoundError, match="holds no 'val' part, only train, test"):
        load("cityscapes", split="val", root=root)
    with pytest.raises(ValueError, match="split is 'all'"):
        load("cityscapes", split="all", root=root)


def test_scene_name():
    for name in ("ulm_000000_000019_leftImg8bit.png", "x/ulm_000000_000019.png"):
        assert cityscapes.scene_name(name) == "ulm_000000_000019"
    for name in ("photo.png", "ulm_000000_0000191.png", "ulm_0_19.png"):
        with pytest.raises(ValueError, match="does not begin with city, sequence and frame"):
            cityscapes.scene_name(name)
