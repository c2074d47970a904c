"""The public sets, where they are here: counts, sizes, ids and class shares; damage."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from segalgos import write_labels
from segalgos.datasets import load, locate
from segalgos.parallel import map_items

# Shares of all pixels in per cent, void last, as the data's README gives them.
CAMVID_SHARES = {
    "train": (16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3, 4.0),
    "val": (9.2, 26.0, 0.6, 29.0, 8.7, 16.3, 0.9, 3.1, 1.8, 0.7, 2.2, 1.7),
}


@pytest.mark.parametrize(
    ("split", "n_images", "n_partitions"), [("train", 200, 1087), ("val", 100, 546)]
)
def test_bsds500(data_root, split, n_images, n_partitions):
    dataset = load("bsds500", split=split, root=data_root)
    assert len(dataset) == n_images
    assert dataset.views == ("partition",)

    def check(index):
        sample = dataset[index]
        assert sorted(sample.image.shape) == [3, 321, 481]
        for labels in sample.annotations:
            assert labels.dtype == np.int32
            assert labels.shape == sample.image.shape[:2]
            assert labels.min() == 0
        return len(sample.annotations)

    counts = map_items(check, range(n_images))
    assert sum(counts) == n_partitions
    assert min(counts) >= 4


def test_bsds500_root_may_be_any_of_three(data_root):
    for root in (data_root, data_root / "BSDS500", data_root / "BSDS500" / "data"):
        assert len(load("bsds500", split="val", root=root)) == 100
    assert locate("bsds500", data_root) == data_root / "BSDS500"


@pytest.mark.parametrize(("split", "n_images"), [("train", 367), ("val", 101)])
def test_camvid(data_root, split, n_images):
    dataset = load("camvid", split=split, root=data_root)
    assert len(dataset) == n_images
    assert len(dataset.classes) == 11

    def count(index):
        sample = dataset[index]
        assert sample.image.shape == (360, 480, 3)
        assert sample.image.dtype == np.uint8
        assert sample.labels.shape == (360, 480)
        assert sample.labels.dtype == np.int32
        return np.bincount(sample.labels.ravel() + 1, minlength=12)

    counts = np.sum(map_items(count, range(n_images)), axis=0)
    assert len(counts) == 12
    shares = 100 * np.roll(counts, -1) / counts.sum()
    assert np.abs(shares - CAMVID_SHARES[split]).max() <= 0.1


def test_nuclei(data_root):
    splits = [load("nuclei", split=s, root=data_root) for s in ("train", "val")]
    assert sum(len(d) for d in splits) == 193
    assert 0.15 < len(splits[1]) / 193 < 0.35
    names = []
    for dataset in splits:
        for sample in dataset[::4]:  # a few hold hundreds of large masks
            names.append(sample.name)
            folder = data_root / "DSB2018" / "stage1_train" / sample.name / "masks"
            masks = sample.instances.masks
            assert len(masks) == len(list(folder.iterdir()))
            assert sample.image.ndim == 3
            assert sample.image.shape[2] == 3
            assert masks.any(axis=(1, 2)).all()
            assert (sample.instances.classes == 1).all()
            assert np.array_equal(masks.any(axis=0), sample.labels == 1)
            assert sample.labels.dtype == np.int32
    assert len(set(names)) == len(names) == 49


# Images of a split, and how many pixels are -1 and of each class.
SEMANTIC = {
    ("cwfid", "train"): (5, (33_947, 5_705_943, 100_101, 419_689)),
    ("cwfid", "val"): (3, (9749, 3_520_642, 107_834, 117_583)),
    ("crackforest", "train"): (55, (177, 8_304_470, 143_353)),
    ("crackforest", "val"): (17, (0, 2_575_210, 35_990)),
    ("magnetictile", "train"): (83, (0, 6_587_392, 970_691)),
    ("magnetictile", "val"): (77, (0, 7_405_030, 455_756)),
    ("wbc", "train"): (100, (0, 1_520_783, 365_864, 260_953)),
    ("wbc", "val"): (34, (0, 551_523, 105_073, 99_244)),
    ("isbi2012", "train"): (18, (0, 1_090_261, 3_628_331)),
    ("isbi2012", "val"): (6, (0, 327_984, 1_244_880)),
    ("weizmann", "train"): (171, (0, 8_346_148, 2_200_342)),
    ("weizmann", "val"): (29, (0, 1_113_863, 370_891)),
}


@pytest.mark.parametrize(("name", "split"), SEMANTIC)
def test_semantic_sets(data_root, name, split):
    dataset = load(name, split=split, root=data_root)
    n_images, pixels = SEMANTIC[name, split]
    assert len(dataset) == n_images
    assert len(dataset.classes) == len(pixels) - 1
    assert dataset.views == ("semantic",)

    def count(index):
        sample = dataset[index]
        assert sample.image.dtype == np.uint8
        assert sample.image.shape[:2] == sample.labels.shape
        assert sample.labels.dtype == np.int32
        return np.bincount(sample.labels.ravel() + 1, minlength=len(pixels))

    assert np.sum(map_items(count, range(n_images)), axis=0).tolist() == list(pixels)
    names = [dataset.read(i).name for i in dataset.indices]
    assert len(set(names)) == n_images


def test_magnetictile_kinds(data_root):
    """Every kind is on both sides, and no tile is: its exposures have close numbers."""
    numbers = []
    for split in ("train", "val"):
        dataset = load("magnetictile", split=split, root=data_root, kinds=True)
        found = np.unique(np.concatenate([np.unique(labels) for labels in dataset.labels]))
        assert found.tolist() == [0, 1, 2, 3, 4, 5]
        numbers.append([int(sample.name.split("_")[-1]) for sample in dataset])
    assert min(numbers[1]) - max(numbers[0]) > 5000


# ---------------------------------------------------- small copies of the layouts, always here


def _image(path, shape=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(path)


def _bsds(tmp_path, segmentation):
    _image(tmp_path / "BSDS500/data/images/val/a.jpg")
    folder = tmp_path / "BSDS500/data/groundTruth/val"
    folder.mkdir(parents=True)
    cell = np.empty((1, 1), object)
    cell[0, 0] = {"Segmentation": segmentation}
    savemat(folder / "a.mat", {"groundTruth": cell})
    return folder / "a.mat"


def test_bsds500_small(tmp_path):
    regions = np.arange(1, 49, dtype=np.uint16).reshape(6, 8)
    path = _bsds(tmp_path, regions)
    sample = load("bsds500", split="val", root=tmp_path)[0]
    assert np.array_equal(sample.annotations[0], regions.astype(int) - 1)
    assert sample.name == "a"
    with pytest.raises(FileNotFoundError, match="holds no 'test' part, only val"):
        load("bsds500", split="test", root=tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    dataset = load("bsds500", split="val", root=tmp_path)
    with pytest.raises(ValueError, match=r"a\.mat could not be read"):
        dataset[0]
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.jpg has no label file .*a\.mat"):
        load("bsds500", split="val", root=tmp_path)


def test_bsds500_wrong_size(tmp_path):
    _bsds(tmp_path, np.ones((5, 8), np.uint16))
    with pytest.raises(ValueError, match=r"a\.mat has size \(5, 8\).*a\.jpg has \(6, 8\)"):
        load("bsds500", split="val", root=tmp_path)[0]


def test_bsds500_ids_from_zero_are_refused(tmp_path):
    _bsds(tmp_path, np.zeros((6, 8), np.uint16))
    with pytest.raises(ValueError, match="ids below 1"):
        load("bsds500", split="val", root=tmp_path)[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_camvid_small(tmp_path, suffix):
    _image(tmp_path / "CamVid/val" / f"f1{suffix}")
    label_path = tmp_path / "CamVid/valannot/f1.png"
    ids = np.arange(48).reshape(6, 8) % 12
    write_labels(label_path, ids)
    labels = load("camvid", split="val", root=tmp_path).labels[0]
    assert np.array_equal(labels, np.where(ids == 11, -1, ids))
    write_labels(label_path, ids + 1)
    with pytest.raises(ValueError, match=r"f1\.png holds ids 1 to 12"):
        load("camvid", split="val", root=tmp_path)[0]
    label_path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"f1\.png"):
        load("camvid", split="val", root=tmp_path)[0]
    label_path.unlink()
    with pytest.raises(ValueError, match=r"has no label file .*f1\.png"):
        load("camvid", split="val", root=tmp_path)


def test_nuclei_small(tmp_path):
    root = tmp_path / "DSB2018/stage1_train"
    for k in range(40):
        rgba = np.full((6, 8, 4), 255, np.uint8)
        (root / f"id{k}/images").mkdir(parents=True)
        Image.fromarray(rgba).save(root / f"id{k}/images/id{k}.png")
        for j in range(2):
            mask = np.zeros((6, 8), np.uint8)
            mask[1:4, 2 * j : 2 * j + 3] = 255  # the two share a column
            (root / f"id{k}/masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / f"id{k}/masks/m{j}.png")
    train, val = (load("nuclei", split=s, root=tmp_path) for s in ("train", "val"))
    assert len(train) + len(val) == 40
    assert len(train) > len(val) > 0
    sample = train[0]
    assert sample.image.shape == (6, 8, 3)
    assert sample.instances.masks.sum() == 18
    assert sample.labels.sum() == 15
    # Images that stay keep their side when others go.
    kept = {s.name for s in train[1:]}
    shutil.rmtree(root / train[0].name)
    assert {s.name for s in load("nuclei", root=tmp_path)} == kept
    second = train[1].name
    write_labels(root / second / "masks/m0.png", np.zeros((5, 5), np.int32))
    with pytest.raises(ValueError, match=r"m0\.png has size \(5, 5\)"):
        load("nuclei", root=tmp_path)[0]
    shutil.rmtree(root / second / "masks")
    with pytest.raises(ValueError, match="masks holds no image"):
        load("nuclei", root=tmp_path)


def test_camvid_by_light(tmp_path):
    for name in ("0001TP_1", "0006R0_1", "0016E5_1", "0016E5_2"):
        _image(tmp_path / "CamVid/train" / f"{name}.png")
        write_labels(tmp_path / "CamVid/trainannot" / f"{name}.png", np.zeros((6, 8), np.int32))
    names = {
        light: [sample.name for sample in load("camvid", root=tmp_path, light=light)]
        for light in ("day", "dusk")
    }
    assert names == {"day": ["0006R0_1", "0016E5_1", "0016E5_2"], "dusk": ["0001TP_1"]}
    with pytest.raises(ValueError, match="light is 'night', expected one of 'day', 'dusk'"):
        load("camvid", root=tmp_path, light="night")
    for path in (tmp_path / "CamVid/train").glob("0001TP*"):
        path.unlink()
    with pytest.raises(ValueError, match="no frame filmed in light='dusk'"):
        load("camvid", root=tmp_path, light="dusk")
