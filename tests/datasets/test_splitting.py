"""`datasets.split`: what stays together, how even it is, what is written."""

import json

import numpy as np
import pytest
from PIL import Image

from segalgos import datasets, formats
from segalgos.datasets import catalog
from segalgos.datasets.splitting import _share_out
from segalgos.formats.convert import FORMATS


def parts_of(plan):
    return {name: part for part, names in plan.names.items() for name in names}


@pytest.mark.parametrize("layout", ["coco", "yolo", "labelme", "voc", "label_maps", "pennfudan"])
def test_new_sets_hold_what_the_old_ones_did(sets, tmp_path, layout):
    folder = sets.healthy(tmp_path / "set", layout)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    task = "instance"
    plan = datasets.split(folder, {"train": 0.5, "val": 0.5}, task=task)
    assert {part: len(names) for part, names in plan.names.items()} == {"train": 3, "val": 3}
    report = plan.write(tmp_path / "new")
    assert report.lossless
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    old = {s.name: s for part in FORMATS[layout].read(folder).values() for s in part}
    new = FORMATS[layout].read(tmp_path / "new")
    assert {part: [s.name for s in new[part]] for part in new} == {
        part: sorted(names) for part, names in plan.names.items()
    } or layout == "coco"
    for scene in (s for part in new.values() for s in part):
        found, expected = scene.to_instances(), old[scene.name].to_instances()
        assert np.array_equal(found.masks, expected.masks)
        assert np.array_equal(found.classes, expected.classes)
        assert scene.image.read_bytes() == old[scene.name].image.read_bytes()
    with pytest.raises(FileExistsError, match="holds something"):
        plan.write(tmp_path / "new")


def test_images_and_masks_are_copied_as_they_are(sets, tmp_path):
    folder = sets.masks_folder(tmp_path / "set")
    (folder / "classes.txt").write_text("ground\nleaf\nfruit\n")
    plan = datasets.split(folder, {"train": 0.5, "val": 0.5})
    assert plan.write(tmp_path / "new") is None
    assert datasets.check(tmp_path / "new").healthy
    for part, names in plan.names.items():
        for name in names:
            for kind in ("images", "masks"):
                old = folder / name[:-1] / kind / f"{name}.png"
                new = tmp_path / "new" / part / kind / f"{name}.png"
                assert new.read_bytes() == old.read_bytes()
    assert (tmp_path / "new" / "classes.txt").is_file()
    with pytest.raises(ValueError, match="are not written as coco"):
        plan.write(tmp_path / "other", "coco")
    with pytest.raises(FileExistsError, match="holds something"):
        plan.write(tmp_path / "new")
    plan.write(tmp_path / "links", images="link")
    assert len(list((tmp_path / "links").rglob("*.png"))) == 12


def flat_folder(sets, folder, names):
    for i, name in enumerate(names):
        for place in ("images", "masks"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        sets.picture(i).save(folder / "images" / f"{name}.png")
        Image.fromarray(np.eye(*sets.SIZE, dtype=np.uint8)).save(folder / "masks" / f"{name}.png")
    return folder


def test_groups_stay_together(sets, tmp_path):
    names = [f"p{i // 3}_{i}" for i in range(24)]
    folder = flat_folder(sets, tmp_path / "set", names)
    (folder / "images" / "p0_0.png").write_bytes((folder / "images" / "p7_23.png").read_bytes())
    plan = datasets.split(folder, {"train": 0.75, "val": 0.25}, group_by=r"(p\d+)_")
    assert plan.n_groups == 7  # a copy ties two of the eight
    where = parts_of(plan)
    for i in range(24):
        assert where[f"p{i // 3}_{i}"] == where[f"p{i // 3}_{i // 3 * 3}"]
    assert where["p0_0"] == where["p7_23"]
    assert {part: len(n) for part, n in plan.names.items()} == {"train": 18, "val": 6}
    again = datasets.split(folder, {"train": 0.75, "val": 0.25}, group_by=r"(p\d+)_")
    assert again.names == plan.names
    alone = datasets.split(folder, {"train": 0.75, "val": 0.25}, near=None)
    assert alone.n_groups == 24
    with pytest.raises(ValueError, match="is not in the name 'p0_0'"):
        datasets.split(folder, group_by="patient")
    with pytest.raises(ValueError, match="is no pattern"):
        datasets.split(folder, group_by="(")
    with pytest.raises(ValueError, match="make 1 groups, expected at least 3"):
        datasets.split(folder, group_by="folder")


def test_folders_stay_together(sets, tmp_path):
    folder = sets.masks_folder(tmp_path / "set")
    plan = datasets.split(folder, {"a": 0.5, "b": 0.5}, group_by="folder")
    assert sorted(sorted(names) for names in plan.names.values()) == [
        ["train0", "train1", "train2"],
        ["val0", "val1", "val2"],
    ]


def test_lists(sets, tmp_path, monkeypatch):
    folder = sets.healthy(tmp_path / "set")
    plan = datasets.split(folder)
    paths = plan.write_lists(tmp_path / "lists")
    assert [path.name for path in paths] == ["train.txt", "val.txt", "test.txt"]
    found = [name for path in paths for name in path.read_text().split()]
    assert sorted(found) == sorted(parts_of(plan))
    json.dumps(plan.to_dict())
    rendered = datasets.load("shapes", n_images=3)
    monkeypatch.setattr(catalog, "load", lambda name, **_: rendered)
    named = datasets.split("shapes", near=None)
    assert sum(map(len, named.names.values())) == 9
    with pytest.raises(ValueError, match="is a data set by name"):
        named.write(tmp_path / "new")


def test_another_format(sets, tmp_path):
    plan = datasets.split(sets.healthy(tmp_path / "set"), {"train": 0.5, "val": 0.5})
    assert plan.write(tmp_path / "new", "roboflow_yolo").lossless
    assert {name: len(p) for name, p in formats.yolo.read(tmp_path / "new").items()} == {
        "train": 3,
        "val": 3,
    }


@pytest.mark.parametrize(
    "fractions", [{}, {"train": 0.5}, {"train": 1.5, "val": -0.5}, {"../x": 0.5, "val": 0.5}]
)
def test_fractions_are_checked(tmp_path, fractions):
    with pytest.raises(ValueError, match=r"add up to 1|is no name"):
        datasets.split(tmp_path, fractions)


def test_classes_are_shared_out_better_than_by_chance():
    """Rare classes in groups: the shares are nearer to the fractions than those of chance."""
    fractions = np.array([0.7, 0.15, 0.15])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(rng.random(12) * 0.6, (120, 12)) * 1.0
        counts = np.concatenate([rng.integers(1, 6, (120, 1)), counts], axis=1)
        chosen = _share_out(counts, fractions, seed)
        assert set(chosen.tolist()) == {0, 1, 2}
        assert np.array_equal(chosen, _share_out(counts, fractions, seed))

        def off(parts, counts=counts):
            shares = [counts[parts == part].sum(axis=0) for part in range(3)]
            shares = np.array(shares) / np.maximum(counts.sum(axis=0), 1)
            return np.abs(shares[:, 1:] - fractions[:, None]).mean(), shares[:, 0]

        by_chance = [off(rng.choice(3, 120, p=fractions))[0] for _ in range(50)]
        mine, images = off(chosen)
        assert mine < min(by_chance)
        assert np.abs(images - fractions).max() < 0.02


def test_every_part_gets_a_group():
    chosen = _share_out(np.ones((3, 2)), np.array([0.98, 0.01, 0.01]), 0)
    assert sorted(chosen.tolist()) == [0, 1, 2]
