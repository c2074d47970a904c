"""Dataset as a lazy sequence; the index; lookup of real data."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segalgos.datasets import Dataset, Info, Sample, available, load, locate
from segalgos.datasets._files import find_folder, hash_share

SEMANTIC = ["cwfid", "crackforest", "magnetictile", "wbc", "isbi2012", "weizmann"]
REAL = ["bsds500", "camvid", "cityscapes", "nuclei", *SEMANTIC, "grabcut", "berkeley"]
FORMATS = ["coco", "voc", "pennfudan", "yolo", "labelme"]

INFO = Info("toy", "semantic", ("train",), "9 train", "CC0", "none", "nowhere", "Nothing.")


class Reader:
    """Counts what it reads."""

    def __init__(self):
        self.calls = []

    def __call__(self, index):
        self.calls.append(index)
        return Sample(np.full((4, 5), index, np.uint8), labels=np.zeros((4, 5), np.int32))


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def toy(reader):
    return Dataset(reader, range(9), INFO, "train", ("a",), ("semantic",))


def test_dataset_reads_only_what_is_asked_for(toy, reader):
    part = toy[2:8:2].subset([2, 0])
    assert isinstance(part, Dataset)
    assert len(part) == 2
    assert reader.calls == []
    assert part[0].image[0, 0] == 6
    assert part[-1].image[0, 0] == 2
    assert reader.calls == [6, 2]
    assert [s.image[0, 0] for s in part] == [6, 2]
    assert (part.name, part.task, part.licence, part.split) == ("toy", "semantic", "CC0", "train")


def test_dataset_ends(toy):
    for beyond in (9, -10):
        with pytest.raises(IndexError):
            toy[beyond]
    with pytest.raises(IndexError):
        toy.subset([9])


def test_fields_are_lazy_sequences(toy, reader):
    images = toy.images
    assert len(images) == 9
    assert reader.calls == []
    assert images[3][0, 0] == 3
    assert reader.calls == [3]
    assert len(images[4:]) == 5
    assert [i[0, 0] for i in images[4:6]] == [4, 5]
    assert toy.labels[0].dtype == np.int32
    assert toy.instances is None
    assert toy.annotations is None


def test_import_is_light():
    code = (
        "import sys, segalgos.datasets as d; d.load('shapes')[0]; "
        "print([m for m in ('sklearn', 'torch', 'numba', 'skimage') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_available_names_everything():
    infos = available()
    names = [info.name for info in infos]
    assert names == ["shapes", "pins", "folder", *REAL, *FORMATS]
    for info in infos:
        assert info.task in ("partition", "semantic", "instance")
        assert info.splits
        assert info.size
        assert info.licence
        assert info.citation
        assert info.source
        assert info.summary
        if not info.built_in and info.name != "folder":
            assert "https://" in info.source


def test_unknown_name_gets_the_closest():
    with pytest.raises(ValueError, match="did you mean 'camvid'"):
        load("cam_vid")
    with pytest.raises(ValueError, match="expected one of shapes, pins"):
        locate("zzz")


def test_missing_data_says_where_and_how(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGALGOS_DATA", raising=False)
    for name in REAL:
        assert locate(name) is None
        with pytest.raises(FileNotFoundError, match=r"neither root= nor SEGALGOS_DATA.*https://"):
            load(name)
        with pytest.raises(FileNotFoundError) as caught:
            load(name, root=tmp_path)
        assert str(tmp_path) in str(caught.value)
        monkeypatch.setenv("SEGALGOS_DATA", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="folder named by SEGALGOS_DATA"):
            load(name)
        monkeypatch.delenv("SEGALGOS_DATA")


def test_lookup_order(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGALGOS_DATA", raising=False)
    toy = replace(INFO, folder="Toy", marks=("mark",))
    (tmp_path / "here" / "Toy" / "mark").mkdir(parents=True)
    (tmp_path / "there" / "Toy" / "mark").mkdir(parents=True)
    assert find_folder(toy, None) is None
    monkeypatch.setenv("SEGALGOS_DATA", str(tmp_path / "here"))
    assert find_folder(toy, None) == tmp_path / "here" / "Toy"
    assert find_folder(toy, tmp_path / "there") == tmp_path / "there" / "Toy"
    assert find_folder(toy, tmp_path / "there" / "Toy") == tmp_path / "there" / "Toy"
    # A root that is given is the only place: nothing else is taken in its stead.
    assert find_folder(toy, tmp_path) is None


def test_built_in_sets_need_no_place():
    assert locate("shapes") is None
    assert len(load("pins", root=Path("/nowhere"))) == 24


def test_hash_share_is_fixed_and_even():
    assert hash_share("image_001") == hash_share("image_001")
    # The first 64 bits of SHA-256, as any other tool computes them.
    assert hash_share("") == int("e3b0c44298fc1c14", 16) / 2**64
    shares = np.array([hash_share(f"image_{i:03d}") for i in range(2000)])
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs((shares < 0.7).mean() - 0.7) < 0.03
