"""Every format written and read again: what comes back, and that losses are told."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segalgos import formats, rle
from segalgos.cityscapes_labels import LABELS
from segalgos.files import read_labels
from segalgos.formats import Annotation, Part, Scene
from segalgos.formats.convert import FORMATS, compare, convert, detect, write

SIZE = (17, 23)
CLASSES = ("person", "car", "train")


def scene_of(masks, name="a", **fields):
    """A scene of masks, with values for each annotation."""
    counts = [rle.encode(mask[None]).counts for mask in masks]
    columns = [dict(zip(fields, values)) for values in zip(*fields.values())] or [{}] * len(counts)
    annotations = [Annotation(c, **{"category": 0, **f}) for c, f in zip(counts, columns)]
    return Scene(name, masks.shape[1:], tuple(annotations))


def random_masks(rng, n=6):
    """Blobs with holes and parts, that overlap; one pixel; nothing; everything."""
    masks = rng.random((n, *SIZE)) < rng.random((n, 1, 1))
    masks[::2] = ndimage.uniform_filter(rng.random((n, *SIZE)), (0, 5, 5))[::2] > 0.5
    special = np.zeros((3, *SIZE), bool)
    special[0, rng.integers(SIZE[0]), rng.integers(SIZE[1])] = True
    special[2] = True
    return np.concatenate([masks, special])


def round_trip(name, scene, classes=CLASSES, **options):
    module = FORMATS[name]
    encoded = module.encode(scene, classes, **options)
    return encoded, module.decode(encoded.content, scene.size, classes)[0]


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_outlines_keep_every_pixel(name):
    rng = np.random.default_rng(0)
    for _ in range(8):
        masks = random_masks(rng)
        scene = scene_of(masks, category=rng.integers(0, 3, len(masks)).tolist())
        encoded, found = round_trip(name, scene)
        assert [i for i in range(len(masks)) if i not in encoded.kept] == list(encoded.dropped)
        assert set(encoded.dropped.values()) <= {"no pixel"}
        drawn = rle.decode(rle.Runs.join(SIZE, [a.counts for a in found]))
        assert np.array_equal(drawn, masks[list(encoded.kept)])
        kept = [scene.annotations[i] for i in encoded.kept]
        assert [a.category for a in found] == [a.category for a in kept]
        report = compare(scene, encoded, CLASSES, FORMATS[name])
        assert +report.losses == Counter({f"objects: {w}": 1 for w in encoded.dropped.values()})


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_outlines_between_pixels_keep_masks(name):
    """Vertices at any place, also in the middle between two places of the drawing's grid."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        n = int(rng.integers(1, 4))
        places = rng.uniform(0, 1, (n, 4, 2)).round(2) * SIZE
        places = (places * 10).round() / 10
        counts = rle.merge(rle.from_polygons([p[:, ::-1].ravel() for p in places], SIZE)).counts
        scene = Scene("a", SIZE, (Annotation(counts, 0, polygons=tuple(places)),))
        if not counts[1::2].sum():
            continue
        encoded, (found,) = round_trip(name, scene)
        report = compare(scene, encoded, CLASSES, FORMATS[name])
        assert report.iou == {}
        if name != "yolo":  # there, parts that overlap are drawn anew, along pixels
            assert +report.losses == Counter()
        elif n == 1:
            assert np.abs(found.polygons[0] - places[0]).max() < 1e-3
            assert +report.losses == Counter()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_reported_is_what_is_lost(name):
    rng = np.random.default_rng(2)
    masks = random_masks(rng)
    scene = scene_of(
        masks,
        category=rng.integers(0, 3, len(masks)).tolist(),
        crowd=(rng.random(len(masks)) < 0.3).tolist(),
        score=rng.random(len(masks)).tolist(),
        box=[None, (0.0, 0.0, 17.0, 23.0), *[None] * (len(masks) - 2)],
    )
    encoded, found = round_trip(name, scene)
    report = compare(scene, encoded, CLASSES, FORMATS[name])
    assert sorted([*encoded.kept, *encoded.dropped]) == list(range(len(masks)))
    losses = Counter()
    names = getattr(FORMATS[name], "FIXED_CLASSES", CLASSES)
    for i, after in zip(encoded.kept, found, strict=True):
        before, drawn = scene.annotations[i], rle.decode(rle.Runs.join(SIZE, [after.counts]))[0]
        both, either = (drawn & masks[i]).sum(), (drawn | masks[i]).sum()
        iou = both / either if either else 1
        assert report.iou.get(i, 1.0) == pytest.approx(iou)
        losses["masks"] += iou < 1
        losses["classes"] += CLASSES[before.category] != names[after.category]
        losses["crowd flags"] += before.crowd != after.crowd
        losses["scores"] += before.score != after.score
    for what in ("classes", "crowd flags", "scores"):
        assert report.losses[what] == losses[what]
    told = report.losses["masks changed"] + report.losses["parts of masks under other objects"]
    assert told == losses["masks"]
    assert set(report.iou) >= set(encoded.dropped)
    # What some formats promise.
    if name == "coco":
        assert +report.losses == Counter()
    if name in ("coco", "voc", "labelme", "cityscapes"):
        assert report.losses["crowd flags"] == 0
    if name == "yolo":
        assert report.losses["crowd flags"] > 0


def test_label_maps_show_small_objects_and_drop_hidden_ones():
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 2:4, 2:4] = True
    masks[1, :9, :9] = True
    masks[2, 2:4, 2:4] = True  # the same as the first, which is above it
    for name in ("voc", "pennfudan", "label_maps"):
        encoded, found = round_trip(name, scene_of(masks))
        assert encoded.kept == (0, 1)
        assert encoded.dropped == {2: "hidden by others, or no pixel"}
        assert [rle.areas(rle.Runs.join(SIZE, [a.counts]))[0] for a in found] == [4, 77]


def test_crowded_images():
    """More objects than a map of 8 bits can hold, and 1,000."""
    masks = np.zeros((1000, 40, 50), bool)
    masks[np.arange(1000), np.arange(1000) // 50 * 2, np.arange(1000) % 50] = True
    scene = scene_of(masks)
    for name, n_kept in (("voc", 254), ("pennfudan", 255), ("label_maps", 1000), ("yolo", 1000)):
        encoded, found = round_trip(name, scene)
        assert len(found) == len(encoded.kept) == n_kept
        assert len(encoded.dropped) == 1000 - n_kept
        assert all("more than" in reason for reason in encoded.dropped.values())
        assert np.array_equal(found[-1].counts, scene.annotations[n_kept - 1].counts)


def test_cityscapes_takes_its_own_classes():
    masks = np.zeros((6, *SIZE), bool)
    for i in range(6):
        masks[i, 2 * i : 2 * i + 2] = True
    classes = ("car", "road", "dog")
    scene = scene_of(masks, category=[0, 1, 2, 0, 0, 0], crowd=[0, 0, 0, 1, 1, 0])
    encoded, found = round_trip("cityscapes", scene, classes)
    assert encoded.dropped == {
        1: "class whose objects are not told apart",
        2: "class that Cityscapes has not",
        4: "joined with another crowd of its class",
    }
    car, road = ([label.name for label in LABELS].index(name) for name in ("car", "road"))
    assert np.unique(encoded.content).tolist() == [0, road, car, 1000 * car, 1000 * car + 1]
    assert encoded.kept == (3, 0, 5)
    assert [a.crowd for a in found] == [True, False, False]
    report = compare(scene, encoded, classes, FORMATS["cityscapes"])
    assert report.iou[3] == pytest.approx(0.5)


def test_void_is_kept_or_told():
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 3:6, 3:6] = True
    void = np.zeros((1, *SIZE), bool)
    void[0, 2:7, 2:7] = True
    scene = scene_of(masks)
    scene = Scene("a", SIZE, scene.annotations, void=rle.encode(void & ~masks).counts)
    for name in FORMATS:
        encoded = FORMATS[name].encode(scene, CLASSES)
        lost = compare(scene, encoded, CLASSES, FORMATS[name]).losses["void pixels"]
        assert lost == (0 if name == "voc" else 16)
    encoded = formats.label_maps.encode(scene, CLASSES, keep_void=True)
    assert compare(scene, encoded, CLASSES, formats.label_maps).losses["void pixels"] == 0


def test_a_loss_that_is_not_told_is_found(monkeypatch):
    """The comparison trusts no writer: one that forgets a pixel, a score or a flag is caught."""
    masks = np.zeros((2, *SIZE), bool)
    masks[:, 3:6, 3:6] = True
    scene = scene_of(masks, crowd=[False, True], score=[0.5, None])
    encoded = formats.coco.encode(scene, CLASSES)
    first, second = encoded.content
    first = {**first, "segmentation": [[3, 3, 6, 3, 6, 5, 3, 5]], "score": 0.25}
    broken = encoded._replace(content=[first, {**second, "iscrowd": 0, "category_id": 1}])
    report = compare(scene, broken, CLASSES, formats.coco)
    assert report.iou == {0: pytest.approx(6 / 9)}
    expected = {"masks changed": 1, "scores": 1, "crowd flags": 1, "classes": 1}
    assert +report.losses == Counter(expected)
    with pytest.raises(RuntimeError, match="gave back 1 objects of 2"):
        compare(scene, encoded._replace(content=[first]), CLASSES, formats.coco)


# --- files -------------------------------------------------------------------------------------


def write_coco(root, n_images=3, splits=("train", "val")):
    """A COCO folder of images with two objects, one of them with a hole, and a crowd."""
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 2:9, 2:9] = True
    masks[0, 4:6, 4:6] = False
    masks[1, 10:12, 3:5] = masks[1, 13:15, 8:11] = True
    masks[2, :, 15:] = True
    codes = rle.write(rle.encode(masks), compressed=False)
    for number, split in enumerate(splits):
        images, annotations = [], []
        for i in range(n_images):
            path = root / f"{split}2017" / f"{split}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*SIZE, 3), 40 * i + number, np.uint8)).save(path)
            images.append({"id": 7 * i, "file_name": path.name, "height": 17, "width": 23})
            for k, code in enumerate(codes):
                entry = {"id": 3 * i + k + 1, "image_id": 7 * i, "category_id": (1, 3, 3)[k]}
                entry |= {"segmentation": code, "iscrowd": int(k == 2)}
                annotations.append(entry)
        categories = [{"id": i, "name": n} for i, n in ((3, "car"), (1, "person"), (9, "train"))]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return masks


@pytest.mark.parametrize("name", FORMATS)
def test_folders_come_back(tmp_path, name):
    masks = write_coco(tmp_path / "in")
    assert detect(tmp_path / "in") == "coco"
    report = convert(tmp_path / "in", tmp_path / "out", target_format=name)
    assert report.written
    assert (report.n_images, report.n_instances) == (6, 18)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert detect(tmp_path / "out") == name
    parts = FORMATS[name].read(tmp_path / "out")
    assert {split: len(part) for split, part in parts.items()} == {"train": 3, "val": 3}
    for split, part in parts.items():
        for i, scene in enumerate(sorted(part, key=lambda s: s.name)):
            if name != "cityscapes":
                assert scene.name == f"{split}{i}"
                assert (np.array(Image.open(scene.image)) == 40 * i + (split == "val")).all()
            assert scene.image.is_file()
            found = scene.to_instances()
            order = np.argsort(found.boxes[:, 1])
            order = order if name != "cityscapes" else order[np.argsort(found.crowd[order])]
            assert np.array_equal(found.masks[order], masks)
            names = [part.classes[c] for c in found.classes[order]]
            expected = {"label_maps": ["object"] * 3, "pennfudan": ["person"] * 3}
            assert names == expected.get(name, ["person", "car", "car"])
    # Back again nothing more is lost.
    again = convert(tmp_path / "out", tmp_path / "again", target_format="coco")
    assert again.lossless
    if name in ("voc", "labelme", "coco"):
        assert report.lossless


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_roboflow_layouts(tmp_path, name):
    masks = write_coco(tmp_path / "in", 2)
    out = tmp_path / "out"
    report = convert(tmp_path / "in", out, target_format=f"roboflow_{name}")
    assert report.lossless == (name == "coco")
    assert (report.losses["crowd flags"], detect(out)) == (0 if name == "coco" else 4, name)
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    if name == "coco":
        images = {
            f"{s}/{stem}{i}.png" for s, stem in (("train", "train"), ("valid", "val")) for i in "01"
        }
        assert files == images | {f"{s}/_annotations.coco.json" for s in ("train", "valid")}
        assert formats.coco.read(out)["val"].class_ids == (1, 3, 9)  # ids stay
    else:
        assert "valid/labels/val1.txt" in files
        text = (out / "data.yaml").read_text()
        assert text.startswith("train: ../train/images\nval: ../valid/images\nnc: 3\nnames:\n- p")
    for split, part in FORMATS[name].read(out).items():
        assert part.classes == ("person", "car", "train")
        for i, scene in enumerate(part):
            assert (scene.name, scene.image.is_file()) == (f"{split}{i}", True)
            assert np.array_equal(scene.to_instances().masks, masks)


def test_roboflow_joins_parts_of_one_folder(tmp_path):
    """A part without a name is to be trained on, as are those of train: no file is lost."""
    scene = scene_of(np.ones((1, *SIZE), bool))
    parts = {
        "": Part(CLASSES, [scene], as_it_is),
        "train": Part(CLASSES, [replace(scene, name="b")], as_it_is),
    }
    write(parts, tmp_path / "out", "roboflow_coco")
    (part,) = formats.coco.read(tmp_path / "out").values()
    assert [s.name for s in part] == ["a", "b"]


def as_it_is(scene):
    return scene


@pytest.mark.parametrize("name", FORMATS)
def test_strict_writes_nothing(tmp_path, name):
    write_coco(tmp_path / "in")
    path = tmp_path / "in" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][4]["keypoints"] = [1, 2, 2]  # what no other format has
    path.write_text(json.dumps(content))
    report = convert(tmp_path / "in", tmp_path / "out", target_format=name, strict=True)
    assert not report.written
    assert report.losses["field 'keypoints'"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert json.loads(json.dumps(report.to_dict()))["lossless"] is False
    assert any("keypoints" in line for line in report.lines())


def test_a_failure_leaves_nothing(tmp_path):
    write_coco(tmp_path / "in")
    path = tmp_path / "in" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segmentation"]["counts"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_val2017\.json: annotations\[8\].*add up"):
        convert(tmp_path / "in", tmp_path / "out", target_format="voc")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_targets_that_are_refused(tmp_path):
    write_coco(tmp_path / "in")
    source = tmp_path / "in"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something"):
        convert(source, tmp_path / "full", target_format="voc")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="holds one image, but there are 6"):
        convert(source, tmp_path / "a.png")
    with pytest.raises(ValueError, match="target_format is None"):
        convert(source, tmp_path / "out")
    with pytest.raises(ValueError, match="is written to a folder"):
        convert(source, tmp_path / "a.json", target_format="voc")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(ValueError, match="in none of the formats"):
        convert(tmp_path / "full", tmp_path / "out", target_format="voc")
    (source / "data.yaml").write_text("names: [a]\ntrain: x\n")
    with pytest.raises(ValueError, match=r"may be coco or yolo.*--from"):
        convert(source, tmp_path / "out", target_format="voc")
    with pytest.raises(ValueError, match="expected one of"):
        convert(source, tmp_path / "out", target_format="voc", images="move")


def test_images_stay_or_are_linked(tmp_path):
    write_coco(tmp_path / "in", 1, ("train",))
    convert(tmp_path / "in", tmp_path / "none", target_format="labelme", images="none")
    assert sorted(p.name for p in (tmp_path / "none" / "train").iterdir()) == ["train0.json"]
    convert(tmp_path / "in", tmp_path / "link", target_format="labelme", images="link")
    linked = tmp_path / "link" / "train" / "train0.png"
    assert linked.samefile(tmp_path / "in" / "train2017" / "train0.png")
    (tmp_path / "in" / "train2017" / "train0.png").unlink()
    report = convert(tmp_path / "in", tmp_path / "gone", target_format="coco")
    assert report.notes["images that are not here"] == 1
    assert report.lossless


def test_files_of_one_image(tmp_path):
    labels = np.zeros(SIZE, np.int32)
    labels[2:5, 2:7], labels[8:10, 3:9], labels[12:, :] = 5, 2, -1
    np.save(tmp_path / "a.npy", labels)
    report = convert(tmp_path / "a.npy", tmp_path / "b.tif")
    assert report.lossless
    assert np.array_equal(read_labels(tmp_path / "b.tif"), labels)  # ids stay
    assert convert(tmp_path / "a.npy", tmp_path / "a.json").losses == {"void pixels": 5 * 23}
    convert(tmp_path / "a.json", tmp_path / "c.png")
    assert np.array_equal(read_labels(tmp_path / "c.png") > 0, labels > 0)
    codes = convert(tmp_path / "a.npy", tmp_path / "codes.json", codes=True)
    assert codes.losses == {"void pixels": 5 * 23}
    (first, _) = json.loads((tmp_path / "codes.json").read_text())["annotations"]
    assert isinstance(first["segmentation"]["counts"], str)
    assert convert(tmp_path / "a.json", tmp_path / "d.json", target_format="labelme").lossless
    assert detect(tmp_path / "d.json") == "labelme"
    bare = [{"segmentation": [[1, 1, 4, 1, 4, 4]], "category_id": 2}]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match="--height and --width"):
        convert(tmp_path / "bare.json", tmp_path / "e.png")
    assert convert(tmp_path / "bare.json", tmp_path / "e.png", shape=(6, 7)).written


def test_names_that_collide(tmp_path):
    write_coco(tmp_path / "in", 1, ("train",))
    path = tmp_path / "in" / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "id": 99, "file_name": "b/train0.jpg"})
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="two images are called 'train0'"):
        convert(tmp_path / "in", tmp_path / "out", target_format="voc")


def test_parts_are_lazy_and_travel():
    import pickle

    part = Part(("a",), [3, 4], int)
    assert list(part) == [3, 4]
    assert list(part[1:]) == [4]
    assert list(pickle.loads(pickle.dumps(part))) == [3, 4]
