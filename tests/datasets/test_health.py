"""`datasets.check`: healthy sets in every layout, and each kind of damage found once."""

import json

import numpy as np
import pytest
from PIL import Image

from segalgos import datasets
from segalgos.datasets import catalog
from segalgos.datasets._findings import KINDS
from segalgos.datasets._image_hash import NEAR, find_near, hash_image
from segalgos.formats.convert import FORMATS
from segalgos.parallel import thread_limit


def kinds(report):
    return {kind: n for kind, n in report.counts.items() if KINDS[kind].severity != "note"}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("layout", FORMATS)
def test_healthy_sets_of_all_layouts(sets, tmp_path, layout):
    seen = []
    task = "instance" if layout == "label_maps" else "semantic"
    folder = sets.healthy(tmp_path / "set", layout)
    report = datasets.check(
        folder, task=task, on_start=seen.append, on_image=lambda: seen.append(1)
    )
    assert report.layout == layout
    assert (seen[0], sum(seen[1:])) == (6, 6)
    assert kinds(report) == {}
    assert report.healthy
    assert [(s.images, s.objects) for s in report.splits.values()] == [(3, 6), (3, 6)]
    assert sum(c.objects for c in report.classes) == 12
    assert sum(c.pixels for c in report.classes) == 6 * (64 + 144)
    assert sum(c.small for c in report.classes) == 12
    json.dumps(report.to_dict())


def test_folder_of_masks(sets, tmp_path):
    folder = sets.masks_folder(tmp_path / "set")
    (folder / "classes.txt").write_text("ground\nleaf\nfruit\n")
    report = datasets.check(folder)
    assert (report.layout, report.healthy) == ("folder", True)
    assert [c.name for c in report.classes] == ["ground", "leaf", "fruit"]
    assert sum(c.share for c in report.classes) == pytest.approx(1)
    (folder / "classes.txt").write_text("ground\nleaf\n")
    assert kinds(datasets.check(folder)) == {"label out of range": 6}
    (folder / "train" / "masks" / "train0.png").unlink()
    (folder / "train" / "images" / "train1.png").unlink()
    (folder / "classes.txt").unlink()
    found = datasets.check(folder)
    assert kinds(found) == {"labels without image": 1, "image without labels": 1}
    assert "train1.png belongs to no image" in found.findings[0].detail


def test_damaged_files(sets, tmp_path):
    folder = sets.masks_folder(tmp_path / "set")
    images, masks = folder / "train" / "images", folder / "train" / "masks"
    whole = (images / "train0.png").read_bytes()
    (images / "train0.png").write_bytes(whole[: len(whole) // 2])
    sets.picture(7).save(tmp_path / "a.jpg", quality=95)
    (images / "train1.png").write_bytes((tmp_path / "a.jpg").read_bytes())
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(masks / "train2.png")
    (folder / "val" / "masks" / "val0.png").write_bytes(b"no picture")
    exif = Image.Exif()
    exif[0x0112] = 6
    sets.picture(8, sets.SIZE).save(images.parents[1] / "val" / "images" / "val1.png", exif=exif)
    exif[0x0112] = 3
    sets.picture(9, sets.SIZE).save(images.parents[1] / "val" / "images" / "val2.png", exif=exif)
    report = datasets.check(folder)
    assert kinds(report) == {
        "broken image": 1,
        "labels cannot be read": 1,
        "size differs": 1,
        "turned by its EXIF tag": 1,
        "EXIF tag of orientation": 1,
        "wrong extension": 1,
    }
    by_kind = {finding.kind: finding for finding in report.findings}
    assert (by_kind["broken image"].image, by_kind["wrong extension"].image) == ("train0", "train1")
    assert by_kind["turned by its EXIF tag"].image == "val1"
    assert "is 40 x 48, its labels are for 30 x 30" in by_kind["size differs"].detail


def test_damaged_annotations_do_not_stop_the_rest(sets, tmp_path):
    folder = sets.healthy(tmp_path / "set")
    path = folder / "annotations" / "instances_train.json"

    def damage(content):
        first = content["annotations"][0]
        more = [
            {**first, "category_id": 77},
            {**first, "image_id": 99},
            {**first, "segmentation": [[1, 2, 3]]},
            {**first, "segmentation": [[1, 1, float("nan"), 5, 9, 9]]},
            {**first, "segmentation": [[5, 5, 30, 5, 17, 5]], "bbox": [5, 5, 25, 0]},
            {**first, "segmentation": [[40, 30, 60, 30, 60, 39, 40, 39]], "bbox": [40, 30, 20, 9]},
            {**first},
        ]
        content["annotations"] += more
        content["images"].append({"id": 50, "file_name": "../../x.png", "height": 4, "width": 4})
        content["images"].append({"id": 51, "file_name": "gone.png", "height": 4, "width": 4})

    edit(path, damage)
    sets.picture(55).save(folder / "images" / "train" / "extra.png")
    report = datasets.check(folder)
    assert kinds(report) == {
        "labels cannot be read": 4,
        "labels without image": 1,
        "label out of range": 1,
        "image without labels": 1,
        "beyond the image": 1,
        "degenerate outline": 1,
        "annotated twice": 1,
    }
    text = "\n".join(finding.detail for finding in report.findings)
    for part in ("annotations[6]", "annotations[7]", "images[3]", "leads down", "'gone.png'"):
        assert part in text
    assert "beyond the image" in report.counts
    assert report.splits["train"].objects == 6 + 3
    assert not report.healthy


def test_damaged_lines_of_yolo(sets, tmp_path):
    folder = sets.healthy(tmp_path / "set", "yolo")
    file = folder / "labels" / "train" / "train0.txt"
    file.write_text(
        file.read_text() + "5 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.1 1.5 0.5 0.1 0.5 0.5\n0 x\n"
    )
    file.with_name("lone.txt").write_text("")
    report = datasets.check(folder)
    assert kinds(report) == {
        "labels cannot be read": 1,
        "labels without image": 1,
        "label out of range": 1,
        "beyond the image": 1,
    }
    assert report.splits["train"].objects == 6


def test_damaged_files_of_labelme(sets, tmp_path):
    folder = sets.healthy(tmp_path / "set", "labelme")
    (folder / "train" / "train0.json").write_text("{")
    edit(folder / "train" / "train1.json", lambda c: c["shapes"][0].update(label="odd"))
    report = datasets.check(folder)
    found = kinds(report)
    assert found["labels cannot be read"] == 1
    assert found["label out of range"] == 2  # in the list, and the shape
    assert found["image without labels"] == 1


def test_copies_and_leaks(sets, tmp_path):
    folder = sets.masks_folder(tmp_path / "set")
    images = folder / "train" / "images"
    (images / "train1.png").write_bytes((images / "train0.png").read_bytes())
    mirrored = sets.picture(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((60, 50))
    mirrored.resize(sets.SIZE[::-1]).save(folder / "val" / "images" / "val1.png")
    for limit in (1, 2):
        with thread_limit(limit):
            report = datasets.check(folder)
        assert kinds(report) == {"leak between splits": 1, "duplicate images": 1}
        twice, leak = report.near
        assert (twice.first, twice.second) == (("train", "train0"), ("train", "train1"))
        assert twice.same_pixels
        assert (leak.first, leak.second, leak.turned) == (
            ("train", "train2"),
            ("val", "val1"),
            True,
        )
    assert datasets.check(folder, near=None).healthy


def test_classes_only_in_val(sets, tmp_path):
    folder = sets.healthy(tmp_path / "set")
    path = folder / "annotations" / "instances_train.json"
    edit(
        path, lambda c: c.update(annotations=[a for a in c["annotations"] if a["category_id"] < 2])
    )
    report = datasets.check(folder)
    assert kinds(report) == {"class missing in train": 1}
    assert "'car' is only in val" in report.findings[0].detail


def test_named_sets(sets, tmp_path, monkeypatch):
    sets.healthy(tmp_path / "PennFudanPed", "pennfudan")
    report = datasets.check("pennfudan", root=tmp_path)
    assert (report.layout, sum(s.objects for s in report.splits.values())) == ("pennfudan", 12)
    assert report.healthy
    small = datasets.load("shapes", n_images=3)
    monkeypatch.setattr(catalog, "load", lambda name, **_: small)
    report = datasets.check("shapes")
    assert report.layout == "shapes"
    assert report.classes[0].name == "background"
    assert kinds(report)["leak between splits"] == 2 * 3  # one set for all parts
    monkeypatch.undo()
    with pytest.raises(ValueError, match="did you mean 'shapes'"):
        datasets.check("shape")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        datasets.check(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected one of coco"):
        datasets.check(tmp_path, layout="png")
    with pytest.raises(ValueError, match="task"):
        datasets.check(tmp_path, task="boxes")


# --- hashes --------------------------------------------------------------------------------------


def test_hashes_tell_copies_from_others(sets):
    images = [np.asarray(sets.picture(seed, (90, 120))) for seed in range(40)]
    copies = [np.asarray(Image.fromarray(image).resize((70, 60))) for image in images]
    hashes = np.array([hash_image(image) for image in images + copies])
    pairs = find_near(hashes)
    assert [(i, j) for i, j, _, _ in pairs.tolist()] == [(i, i + 40) for i in range(40)]
    assert pairs[:, 2].max() <= NEAR
    assert find_near(hashes[:1]).shape == (0, 4)


def test_all_symmetries_are_found(sets):
    image = np.asarray(sets.picture(3, (64, 64)))
    turned = [np.rot90(image, k) for k in range(4)]
    turned += [one[:, ::-1] for one in turned]
    hashes = np.array([hash_image(np.ascontiguousarray(one)) for one in turned])
    found = find_near(hashes, most=0)
    assert len(found) == 28
    assert set(found[:7, 3].tolist()) == set(range(1, 8))


def test_pairs_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (150, 8, 4), np.uint64)
    hashes[100:, 3] = hashes[:50, 0] ^ rng.integers(0, 2**16, (50, 4), np.uint64)
    bits = np.unpackbits(hashes.view(np.uint8), axis=2)
    table = (bits[:, None, :1] != bits[None]).sum(axis=3).min(axis=2)
    expected = np.argwhere(np.triu(table <= 100, 1))
    found = find_near(hashes, most=100)
    assert len(expected) >= 50
    assert np.array_equal(found[:, :2], expected)
    assert np.array_equal(found[:, 2], table[tuple(expected.T)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_flat_images_have_no_hash(dtype):
    assert hash_image(np.full((20, 30), 7, dtype)) is None
    ramp = np.linspace(0, 1 if dtype == np.float32 else np.iinfo(dtype).max, 600).reshape(20, 30)
    assert hash_image(ramp.astype(dtype)).shape == (8, 4)


def test_an_unclear_layout_says_how_to_tell_it(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(
        ValueError, match=r"^check: .* is in none of the formats: say layout= .*--lay"
    ):
        datasets.check(tmp_path)
