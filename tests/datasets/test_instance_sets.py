"""The sets of objects, on small layouts that the tests write, damaged ones and real ones."""

import base64
import contextlib
import io
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segalgos import rle
from segalgos.datasets import coco, load, locate
from segalgos.formats import voc
from segalgos.metrics import coco_average_precision

SIZE = (12, 16)
SQUARE = np.zeros(SIZE, bool)
SQUARE[2:6, 3:9] = True
OTHER = np.zeros(SIZE, bool)
OTHER[4:10, 7:14] = True


def save(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette.ravel().tolist())
    image.save(path)
    return path


def photo(path, level=0, size=SIZE):
    return save(path, np.full((*size, 3), level, np.uint8))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --- COCO --------------------------------------------------------------------------------------

POLYGON = [[3, 2, 9, 2, 9, 6, 3, 6]]
CATEGORIES = [{"id": 0, "name": "things"}, {"id": 17, "name": "cat"}, {"id": 4, "name": "dog"}]


def coco_content(names=("a.jpg", "b.jpg")):
    images = [
        {"id": i, "file_name": name, "height": 12, "width": 16} for i, name in enumerate(names)
    ]
    (code,) = rle.write(rle.encode(OTHER[None]))
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 17, "segmentation": [list(POLYGON[0])]},
        {"id": 2, "image_id": 0, "category_id": 4, "segmentation": code, "bbox": [7, 4, 7, 6]},
        {"id": 3, "image_id": 1, "category_id": 17, "segmentation": [], "bbox": [3, 2, 6, 4]},
        {"id": 4, "image_id": 1, "category_id": 4, "segmentation": code, "iscrowd": 1},
    ]
    categories = [dict(category) for category in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}


def official(root):
    write(root / "annotations" / "instances_train2017.json", coco_content())
    write(root / "annotations" / "captions_train2017.json", {})
    return root / "train2017", "train"


def ultralytics(root):
    write(root / "annotations" / "instances_val2017.json", coco_content())
    return root / "images" / "val2017", "val"


def cvat(root):
    write(root / "annotations" / "instances_default.json", coco_content())
    return root / "images", "all"


def roboflow(root):
    write(root / "valid" / "_annotations.coco.json", coco_content())
    return root / "valid", "val"


def fiftyone(root):
    write(root / "labels.json", coco_content())
    return root / "data", "all"


@pytest.mark.parametrize("layout", [official, ultralytics, cvat, roboflow, fiftyone])
def test_coco(tmp_path, monkeypatch, layout):
    images, split = layout(tmp_path / "coco")
    photo(images / "a.jpg")
    photo(images / "b.jpg", 99)
    assert locate("coco", tmp_path) == locate("coco", tmp_path / "coco") == tmp_path / "coco"
    dataset = load("coco", root=tmp_path, split=split)
    assert (dataset.classes, dataset.task) == (("background", "things", "dog", "cat"), "instance")
    first, second = dataset
    assert [sample.name for sample in dataset] == ["a", "b"]
    assert second.image.mean() == pytest.approx(99, abs=2)
    np.testing.assert_array_equal(first.instances.masks, [SQUARE, OTHER])
    np.testing.assert_array_equal(second.instances.masks, [SQUARE, OTHER])
    assert first.instances.classes.tolist() == [3, 2]
    assert second.instances.crowd.tolist() == [False, True]
    # Both classes at one place: unknown. A crowd: unknown where no object is.
    expected = np.where(SQUARE, 3, np.where(OTHER, 2, 0))
    expected[SQUARE & OTHER] = -1
    np.testing.assert_array_equal(first.labels, expected)
    expected = np.where(SQUARE, 3, np.where(OTHER, -1, 0))
    np.testing.assert_array_equal(second.labels, expected)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.instances[1].masks, second.instances.masks)
    monkeypatch.setenv("SEGALGOS_DATA", str(tmp_path))
    assert len(load("coco", split="all")) == 2
    truth = coco.annotations(split=split)
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4]


def test_coco_scores_of_perfect_detections(tmp_path):
    images, split = official(tmp_path)
    for name in "ab":
        photo(images / f"{name}.jpg")
    dataset = load("coco", root=tmp_path, split=split)
    found = [a for i, truth in enumerate(dataset.instances) for a in truth.to_coco(i)]
    truth = dataset.to_coco()
    assert [c["name"] for c in truth["categories"]] == ["things", "dog", "cat"]
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 0, 0, 1]
    assert coco_average_precision(truth, found)["AP"] == pytest.approx(1)
    wrong = [{**a, "category_id": 5 - a["category_id"]} for a in found]
    assert coco_average_precision(truth, wrong)["AP"] < 0.5
    ids = {0: 0, 2: 4, 3: 17}
    own = [{**a, "category_id": ids[a["category_id"]]} for a in found]
    file = coco.annotations(split=split, root=tmp_path)
    file["annotations"][2]["segmentation"] = POLYGON  # it is a box
    assert coco_average_precision(file, own)["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match="have no instances, only semantic"):
        replace(dataset, views=("semantic",)).to_coco()


def test_coco_without_parts_is_split_by_names(tmp_path):
    names = [f"{i}.jpg" for i in range(30)]
    write(tmp_path / "annotations.json", coco_content(names))
    for name in names:
        photo(tmp_path / "images" / name)
    train, test = (load("coco", root=tmp_path, split=s) for s in ("train", "test"))
    assert 15 <= len(train) <= 27
    assert sorted(s.name for s in [*train, *test]) == sorted(str(i) for i in range(30))
    with pytest.raises(ValueError, match="split"):
        load("coco", root=tmp_path, split="val")
    with pytest.raises(ValueError, match="no file of the part 'train', only of all"):
        coco.annotations(root=tmp_path)


def damage(path, value):
    def change(content):
        *way, last = path
        for key in way:
            content = content[key]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["images"], 3, "images is 3, expected a list"),
        (["images", 0], 3, r"images\[0\] is 3, expected an object"),
        (["images", 1, "id"], 0, r"images\[1\] has the id 0, which is missing or used before"),
        (["images", 1, "id"], None, r"images\[1\] has the id None"),
        (["images", 1, "id"], [1], r"images\[1\]"),
        (["images", 1, "file_name"], "../a.jpg", "leads down"),
        (["images", 1, "file_name"], "/etc/a.jpg", "leads down"),
        (["images", 1, "file_name"], 7, "the name of a file"),
        (["images", 1, "file_name"], "a.jpg", "two images are called 'a'"),
        (["images", 1, "height"], "12", "expected integers"),
        (["images", 1, "height"], 10**9, "at most"),
        (["images", 1, "height"], 0, "at least 1 x 1"),
        (["categories", 1, "id"], 0, r"categories\[1\] has the id 0"),
        (["categories", 1, "name"], 5, r"categories\[1\]\['name'\] is 5, expected text"),
        (["annotations"], None, "no list of annotations"),
        (["annotations", 1], "x", r"annotations\[1\] is 'x', expected an object"),
        (["annotations", 1, "image_id"], 55, r"annotations\[1\] is of image 55"),
        (["annotations", 1, "image_id"], None, r"annotations\[1\] is of image None"),
        (["annotations", 1, "category_id"], 55, r"annotations\[1\] is of category 55"),
        (["annotations", 1, "category_id"], True, r"annotations\[1\]\['category_id'\]"),
        (["annotations", 0, "segmentation"], [1, 2, 3, 4, 5, 6], "expected a list of polygons"),
        (["annotations", 0, "segmentation"], [[1, 2, 3, 4]], "expected x0, y0"),
        (["annotations", 0, "segmentation"], [["a"] * 6], "cannot be read as numbers"),
        (["annotations", 0, "segmentation"], [[1e9] * 6], "beyond 10 times"),
        (["annotations", 0, "segmentation"], "x", "expected a run-length code"),
        (["annotations", 0, "segmentation"], {"size": [12, 16], "counts": [3]}, "add up"),
        (["annotations", 0, "segmentation"], {"size": [9, 9], "counts": [81]}, r"has \(12, 16\)"),
        (["annotations", 0, "segmentation"], {"counts": "~"}, "is no code"),
        (["annotations", 0, "segmentation"], None, "neither a segmentation nor a box"),
        (["annotations", 0, "iscrowd"], 3, "expected 0 or 1"),
        (["annotations", 0, "bbox"], [1, 2, 3], "expected four numbers"),
        (["annotations", 0, "bbox"], 5, "expected four numbers"),
        (["annotations", 0, "bbox"], [1, 2, -3, 4], "negative size"),
        (["annotations", 0, "bbox"], [1, 2, float("nan"), 4], "expected four numbers"),
        (["annotations", 0, "score"], "high", "expected a number"),
    ],
)
def test_damaged_coco(tmp_path, path, value, words):
    content = coco_content()
    damage(path, value)(content)
    write(tmp_path / "annotations.json", content)
    for name in "ab":
        photo(tmp_path / "images" / f"{name}.jpg")
    with pytest.raises(ValueError, match=r"coco: .*annotations\.json.*" + words):
        list(load("coco", root=tmp_path, split="all"))


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "\xff", "3", '{"a": 1}', "null"])
def test_no_coco_at_all(tmp_path, text):
    (tmp_path / "annotations.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"coco: .*annotations\.json"):
        load("coco", root=tmp_path, split="all")


def test_images_that_are_missing_or_differ(tmp_path):
    write(tmp_path / "annotations.json", coco_content())
    photo(tmp_path / "images" / "a.jpg", size=(5, 5))
    dataset = load("coco", root=tmp_path, split="all")
    with pytest.raises(ValueError, match="expected the same height and width"):
        dataset[0]
    with pytest.raises(FileNotFoundError, match=r"'b\.jpg' is not here"):
        dataset[1]
    with pytest.raises(FileNotFoundError, match=r"found no file in COCO's format"):
        load("coco", root=tmp_path / "images")


# --- VOC ---------------------------------------------------------------------------------------

XML = """<annotation><size><width>16</width><height>12</height></size>
<object><name>cat</name><difficult>0</difficult>
  <bndbox><xmin>4</xmin><ymin>3</ymin><xmax>9</xmax><ymax>6</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
  <bndbox><xmin>8</xmin><ymin>5</ymin><xmax>14</xmax><ymax>10</ymax></bndbox></object>
</annotation>"""
OBJECTS = np.where(SQUARE, 1, np.where(OTHER, 2, 0)).astype(np.uint8)
OBJECTS[0] = 255


def write_voc(root, names=("a", "b")):
    cat, dog = (voc.CLASSES.index(name) + 1 for name in ("cat", "dog"))
    classes = np.array([0, cat, dog, *[0] * 252, 255], np.uint8)[OBJECTS]
    for name in names:
        photo(root / "JPEGImages" / f"{name}.jpg")
        save(root / "SegmentationObject" / f"{name}.png", OBJECTS, voc.colour_map())
        save(root / "SegmentationClass" / f"{name}.png", classes, voc.colour_map())
        write(root / "Annotations" / f"{name}.xml", XML)
    write(root / "ImageSets" / "Segmentation" / "train.txt", f"{names[0]}\n")
    write(root / "ImageSets" / "Segmentation" / "val.txt", f"{names[1]}\n\n")
    write(root / "ImageSets" / "Segmentation" / "trainval.txt", "\n".join(names))
    write(root / "ImageSets" / "Main" / "train.txt", "\n".join(names))
    write(root / "ImageSets" / "Main" / "cat_train.txt", f"{names[0]} -1\n")
    return root


def check_voc(sample, crowd=(False, True)):
    np.testing.assert_array_equal(sample.instances.masks, [OBJECTS == 1, OBJECTS == 2])
    assert sample.instances.crowd.tolist() == list(crowd)
    assert (sample.labels[0] == -1).all()
    assert (sample.labels[SQUARE] == sample.instances.classes[0]).all()


def test_voc(tmp_path):
    root = write_voc(tmp_path / "VOCdevkit" / "VOC2012")
    for place in (tmp_path, tmp_path / "VOCdevkit", root):
        assert [len(load("voc", root=place, split=s)) for s in ("train", "val", "all")] == [1, 1, 2]
    dataset = load("voc", root=tmp_path, split="val")
    assert dataset.classes == ("background", *voc.CLASSES)
    check_voc(dataset[0])
    assert [dataset.classes[c] for c in dataset[0].instances.classes] == ["cat", "dog"]
    assert dataset[0].instances.boxes.tolist() == [[2, 3, 6, 9], [4, 7, 10, 14]]
    boxes = load("voc", root=tmp_path, split="train", annotations="boxes")
    assert len(boxes) == 2
    np.testing.assert_array_equal(boxes[0].instances.masks, [SQUARE, OTHER])
    with pytest.raises(ValueError, match="annotations"):
        load("voc", root=tmp_path, annotations="points")


def test_colours_of_voc():
    colours = voc.colour_map()
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: tuple(colours[i].tolist()) for i in expected} == expected
    assert colours[255].tolist() == [224, 224, 192]
    assert len(np.unique(colours, axis=0)) == 256


def test_voc_in_colours_as_cvat_writes_it(tmp_path):
    write(tmp_path / "labelmap.txt", "# label\ncat:10,20,30::\nbackground:0,0,0::\ndog:1,2,3::a\n")
    colours = np.array([[0, 0, 0], [10, 20, 30], [1, 2, 3]], np.uint8)
    save(tmp_path / "SegmentationClass" / "a.png", colours[OBJECTS % 255])
    # Objects of any colours, also such as VOC's map has not: holes make no further objects.
    own = np.array([[0, 0, 0], [243, 243, 243], [128, 0, 0]], np.uint8)
    save(tmp_path / "SegmentationObject" / "a.png", own[OBJECTS % 255])
    photo(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "ImageSets" / "Segmentation" / "default.txt", "a\n")
    dataset = load("voc", root=tmp_path, split="all")
    assert dataset.classes == ("background", "cat", "dog")
    found = dataset[0].instances
    assert len(found) == 2
    masks = {int(c): m for c, m in zip(found.classes, found.masks)}
    np.testing.assert_array_equal(masks[1], OBJECTS == 1)
    np.testing.assert_array_equal(masks[2], OBJECTS == 2)
    save(tmp_path / "SegmentationClass" / "a.png", own[OBJECTS % 255])
    with pytest.raises(ValueError, match=r"a\.png holds the colour #800000.*labelmap\.txt"):
        dataset[0]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("Annotations/a.xml", "<annotation>", r"a\.xml is no annotation in XML"),
        ("Annotations/a.xml", "<x/>", "begins with <x>"),
        ("Annotations/a.xml", "<annotation><object/></annotation>", "object 1 has no name"),
        ("Annotations/a.xml", XML.replace("4<", "four<"), r"object 1: <xmin> is 'four'"),
        ("Annotations/a.xml", XML.replace("<xmin>4", "<xmin>12"), "box of no size"),
        ("Annotations/a.xml", XML.replace("16", "nan"), "is 'nan', expected a number"),
        ("Annotations/a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "refused"),
        ("SegmentationObject/a.png", "no image", "could not be decoded"),
        ("SegmentationClass/a.png", None, r"has no map of classes .*SegmentationClass.a\.png"),
        ("SegmentationObject/a.png", OBJECTS[:5], "expected one"),
        ("SegmentationClass/a.png", np.zeros(SIZE, np.uint8), "object 1 has no class"),
        ("SegmentationClass/a.png", np.full(SIZE, 99, np.uint8), "object 1 has class 99"),
        ("ImageSets/Segmentation/train.txt", "zzz\n", r"image 1: there is no .*zzz'\.png"),
        ("ImageSets/Segmentation/train.txt", "../a\n", "image 1: there is no"),
        ("ImageSets/Segmentation/train.txt", "a\na\n", "two images are called 'a'"),
        ("labelmap.txt", "background:x::\n", r"labelmap\.txt, line 1"),
        ("labelmap.txt", "cat:1,2,3::\n", "expected background"),
    ],
)
def test_damaged_voc(tmp_path, path, content, words):
    write_voc(tmp_path)
    if content is None:
        (tmp_path / path).unlink()
    elif isinstance(content, str):
        write(tmp_path / path, content)
    else:
        save(tmp_path / path, content)
    with pytest.raises(ValueError, match="voc: .*" + words if "decoded" not in words else words):
        list(load("voc", root=tmp_path, split="train"))


def test_boxes_of_unknown_classes(tmp_path):
    write_voc(tmp_path)
    write(tmp_path / "Annotations" / "a.xml", XML.replace("dog", "gnu"))
    with pytest.raises(ValueError, match=r"object 2 is a 'gnu', which is no class"):
        list(load("voc", root=tmp_path, annotations="boxes"))
    check_voc(load("voc", root=tmp_path)[0], (False, False))  # the map says it is a dog


# --- YOLO --------------------------------------------------------------------------------------

LINES = f"0 {' '.join(f'{x / 16} {y / 12}' for x, y in ((3, 2), (9, 2), (9, 6), (3, 6)))}\n\n1 "
LINES += f"{10.5 / 16} {7 / 12} {7 / 16} {6 / 12}\n"


def write_yolo(root, yaml="names: [cat, dog]\nnc: 2\ntrain: images/train\nval: images/val\n"):
    for split in ("train", "val"):
        photo(root / "images" / split / f"{split}1.jpg")
        photo(root / "images" / split / f"{split}2.jpg")
        write(root / "labels" / split / f"{split}1.txt", LINES)
    write(root / "data.yaml", yaml)
    return root


def test_yolo(tmp_path):
    dataset = load("yolo", root=write_yolo(tmp_path))
    assert dataset.classes == ("background", "cat", "dog")
    np.testing.assert_array_equal(dataset[0].instances.masks, [SQUARE, OTHER])
    assert dataset[0].instances.classes.tolist() == [1, 2]
    assert len(dataset[1].instances) == 0
    assert dataset[1].instances.shape == SIZE
    assert len(load("yolo", root=tmp_path / "data.yaml", split="all")) == 4


def test_yolo_as_others_write_it(tmp_path):
    """Roboflow's paths lead one folder too high; lists of images; a path that is not here."""
    for split in ("train", "valid"):
        photo(tmp_path / split / "images" / "a.jpg")
        write(tmp_path / split / "labels" / "a.txt", LINES)
    write(tmp_path / "list.txt", "./valid/images/a.jpg\n")
    names = "names:\n- cat\n- dog\n"
    write(tmp_path / "data.yaml", f"path: ../none\ntrain: ../train/images\nval: list.txt\n{names}")
    assert [len(load("yolo", root=tmp_path, split=s)[0].instances) for s in ("train", "val")] == [
        2,
        2,
    ]
    write(tmp_path / "data.yaml", f"train: [train, valid/images]\n{names}")
    with pytest.raises(ValueError, match="two images are called 'a'"):
        load("yolo", root=tmp_path)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("data.yaml", "names: [a]\n", "names no images"),
        ("data.yaml", "train: images/train\n", "names is no list of class names"),
        ("data.yaml", "names: {0: a, 2: b}\ntrain: images/train\n", "expected 0, 1, 2"),
        ("data.yaml", "names: [a]\nnc: 3\ntrain: images/train\n", "nc is '3'"),
        ("data.yaml", "names: [a]\nval: x\nvalid: x\ntrain: images/train\n", "not there"),
        ("data.yaml", "names: !!python/name:os.system\n", "begins with '!'"),
        ("data.yaml", "\xff\xfe", "data.yaml"),
        ("labels/train/train1.txt", "0 0.1 0.2 0.3\n", r"train1\.txt, line 1 has 3 numbers"),
        ("labels/train/train1.txt", f"{LINES}0 0.1 0.2\n", "line 4 has 2 numbers"),
        ("labels/train/train1.txt", "0 a 0.2 0.3 0.4 0.1 0.2\n", "line 1 holds something"),
        ("labels/train/train1.txt", "2 0.1 0.2 0.3 0.4 0.1 0.2\n", "begins with 2, expected a cl"),
        ("labels/train/train1.txt", "-1 0.1 0.2 0.3 0.4 0.1 0.2\n", "begins with -1"),
        ("labels/train/train1.txt", "0.5 0.1 0.2 0.3 0.4 0.1 0.2\n", r"begins with 0\.5"),
        ("labels/train/train1.txt", "0 10 20 30 40 50 60\n", "beyond 0 to 1"),
        ("labels/train/train1.txt", "0 nan 0.2 0.3 0.4 0.1 0.2\n", "beyond 0 to 1"),
        ("labels/train/train1.txt", "nan 0.1 0.2 0.3 0.4 0.1 0.2\n", "begins with nan"),
        ("images/train/train1.jpg", "no image", "could not be decoded"),
    ],
)
def test_damaged_yolo(tmp_path, path, content, words):
    write_yolo(tmp_path)
    (tmp_path / path).write_text(content, encoding="latin-1")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        list(load("yolo", root=tmp_path))


# --- labelme -----------------------------------------------------------------------------------


def shape_of(kind="polygon", points=((3, 2), (9, 2), (9, 6), (3, 6)), **fields):
    return {"label": "cat", "points": [list(p) for p in points], "shape_type": kind, **fields}


def write_labelme(root, shapes, name="a", **fields):
    photo(root / f"{name}.jpg")
    content = {"shapes": shapes, "imagePath": f"..\\x\\{name}.jpg", "imageData": "@@@ not read"}
    write(root / f"{name}.json", {**content, "imageHeight": 12, "imageWidth": 16, **fields})


def test_labelme(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(OTHER[4:10, 7:14]).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        shape_of(),
        shape_of("rectangle", ((14, 10), (7, 4)), label="dog"),
        shape_of("mask", ((7, 4), (13, 9)), label="dog", mask=picture),
        shape_of("line", ((0, 0), (3, 3))),
        shape_of(points=((0, 0), (2, 0), (2, 2), (0, 2)), group_id=5, flags={"crowd": True}),
        shape_of(points=((4, 8), (6, 8), (6, 10), (4, 10)), group_id=5),
        shape_of("circle", ((8, 6), (8, 8.5)), label="ant"),
        shape_of("point", ((3, 3),)),
    ]
    write_labelme(tmp_path, shapes)
    write_labelme(tmp_path, [], "b", imageHeight=None, imageWidth=None)
    dataset = load("labelme", root=tmp_path, split="all")
    assert dataset.classes == ("background", "ant", "cat", "dog")
    found = dataset[0].instances
    assert found.classes.tolist() == [2, 3, 3, 2, 1]
    assert found.crowd.tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(found.masks[:3], [SQUARE, OTHER, OTHER])
    parts = np.zeros(SIZE, bool)
    parts[:2, :2] = parts[8:10, 4:6] = True
    np.testing.assert_array_equal(found.masks[3], parts)
    rows, columns = np.indices(SIZE) + 0.5
    np.testing.assert_array_equal(found.masks[4], np.hypot(rows - 6, columns - 8) <= 2.5)
    assert dataset[1].instances.masks.shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (3, r"shapes\[1\] is 3, expected an object"),
        ({"points": []}, r"shapes\[1\]\['label'\] is None, expected text"),
        (shape_of("blob"), r"shapes\[1\] has the shape_type 'blob'"),
        (shape_of(points=((1, 2), (3, 4))), "polygon of 2 points"),
        (shape_of("rectangle", ((1, 2),)), "rectangle of 1 points"),
        (shape_of("circle", ((1, 2),)), "circle of 1 points"),
        (shape_of(points=((1, 2), (3, 4), (1e9, 0))), "beyond 10 times"),
        (shape_of(points=((1, 2), (3, 4), (float("nan"), 0))), "no list of pairs"),
        ({**shape_of(), "points": "x"}, "cannot be read as numbers"),
        ({**shape_of(), "points": [1, 2, 3]}, "no list of pairs"),
        ({**shape_of(), "flags": 3}, "flags"),
        ({**shape_of(), "group_id": [1]}, "group_id"),
        (shape_of("mask", ((1, 2), (3, 4))), "a picture in base64"),
        (shape_of("mask", ((1, 2), (3, 4)), mask="!"), "no picture in base64"),
    ],
)
def test_damaged_labelme(tmp_path, shape, words):
    write_labelme(tmp_path, [shape_of(), shape])
    with pytest.raises(ValueError, match=r"labelme: .*a\.json.*" + words):
        list(load("labelme", root=tmp_path, split="all"))


# --- Penn-Fudan, Cityscapes --------------------------------------------------------------------


def test_pennfudan(tmp_path):
    root = tmp_path / "PennFudanPed"
    for i in range(20):
        photo(root / "PNGImages" / f"FudanPed{i:05}.png", i)
        save(root / "PedMasks" / f"FudanPed{i:05}_mask.png", OBJECTS % 255)
    train, test = (load("pennfudan", root=tmp_path, split=s) for s in ("train", "test"))
    assert len(train) + len(test) == len(load("pennfudan", root=root, split="all")) == 20
    assert min(len(train), len(test)) > 0
    sample = train[0]
    assert train.classes == ("background", "person")
    np.testing.assert_array_equal(sample.instances.masks, [OBJECTS == 1, OBJECTS == 2])
    np.testing.assert_array_equal(sample.labels, (OBJECTS % 255 > 0).astype(int))
    assert (sample.image == int(sample.name[-2:])).all()
    save(root / "PedMasks" / "odd.png", OBJECTS)
    with pytest.raises(ValueError, match=r"odd\.png does not end in _mask"):
        load("pennfudan", root=root)


def test_cityscapes_objects(tmp_path):
    ids = np.zeros(SIZE, np.uint16)
    ids[SQUARE], ids[OTHER], ids[0], ids[11, :4], ids[11, 4:] = 26001, 24000, 26, 29003, 7
    name = "ulm_000000_000019"
    photo(tmp_path / f"leftImg8bit/val/ulm/{name}_leftImg8bit.png")
    start = f"gtFine/val/ulm/{name}_gtFine"
    save(tmp_path / f"{start}_instanceIds.png", ids)
    label_ids = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
    save(tmp_path / f"{start}_labelIds.png", label_ids)
    dataset = load("cityscapes", root=tmp_path, split="val", task="instance")
    (sample,) = dataset
    assert dataset.views == ("semantic", "instance")
    found = sample.instances
    assert [dataset.classes[c] for c in found.classes] == ["car", "person", "car"]
    assert found.crowd.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.masks[1:], [OTHER, SQUARE & ~OTHER])
    np.testing.assert_array_equal(found.masks[0], np.indices(SIZE)[0] == 0)
    plain = load("cityscapes", root=tmp_path, split="val")
    np.testing.assert_array_equal(plain.labels[0], sample.labels)
    assert plain.instances is None
    save(tmp_path / f"{start}_instanceIds.png", ids + np.uint16(7000))
    with pytest.raises(ValueError, match=r"instanceIds\.png holds the value 7000"):
        dataset[0]
    with pytest.raises(ValueError, match="task"):
        load("cityscapes", root=tmp_path, split="val", task="panoptic")


# --- anything anywhere -------------------------------------------------------------------------

NASTY = (None, [], {}, "x", "../x", "\0", -1, 10**400, 1e308, float("nan"), True, [[1, 2], [3]])


def places(content, way=()):
    """Ways to all values inside a document."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys if isinstance(content, dict | list) else ():
        yield (*way, key)
        if isinstance(content[key], dict | list):
            yield from places(content[key], (*way, key))


def try_everything(content, file, read):
    """Put each nasty value everywhere; what is refused is refused by name."""
    n_refused = n_read = 0
    for way in places(content):
        for value in NASTY:
            changed = json.loads(json.dumps(content))
            target = changed
            for key in way[:-1]:
                target = target[key]
            target[way[-1]] = value
            file.write_text(json.dumps(changed))
            message = None
            try:
                read()
            except (ValueError, FileNotFoundError) as error:
                message = str(error)
            told = message is None or file.name in message or "is not here" in message
            assert told, (way, value, message)
            n_refused += message is not None
            n_read += message is None
    assert n_refused > 100
    assert n_read > 10


def test_any_value_anywhere_in_coco(tmp_path):
    for name in "ab":
        photo(tmp_path / "images" / f"{name}.jpg")
    content = coco_content()
    content["annotations"][0]["score"] = 0.5
    content["annotations"][1]["segmentation"] = {"size": [12, 16], "counts": [100, 5, 87]}
    file = tmp_path / "annotations.json"
    try_everything(content, file, lambda: list(load("coco", root=tmp_path, split="all")))


def test_any_value_anywhere_in_labelme(tmp_path):
    circle = shape_of("circle", ((3, 3), (4, 4)))
    write_labelme(tmp_path, [shape_of(group_id=3, flags={"crowd": True}), circle])
    content = json.loads((tmp_path / "a.json").read_text())
    file = tmp_path / "a.json"
    try_everything(content, file, lambda: list(load("labelme", root=tmp_path, split="all")))


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_to_text(tmp_path, seed):
    """Bytes of YAML, of lines and of XML replaced, left out and doubled."""
    rng = np.random.default_rng(seed)
    write_yolo(tmp_path / "yolo")
    write_voc(tmp_path / "voc")
    yolo_root, voc_root = tmp_path / "yolo", tmp_path / "voc"
    jobs = [
        (yolo_root / "data.yaml", lambda: list(load("yolo", root=yolo_root, split="all"))),
        (yolo_root / "labels/train/train1.txt", lambda: list(load("yolo", root=yolo_root))),
        (voc_root / "Annotations/a.xml", lambda: list(load("voc", root=voc_root))),
        (voc_root / "ImageSets/Segmentation/train.txt", lambda: list(load("voc", root=voc_root))),
    ]
    for file, read in jobs:
        original = file.read_bytes()
        for _ in range(40):
            damaged = bytearray(original)
            for _ in range(rng.integers(1, 4)):
                at = int(rng.integers(len(damaged) + 1))
                kind = rng.integers(3)
                damaged[at : at + int(kind == 0)] = bytes(rng.integers(0, 256, kind).astype("u1"))
            file.write_bytes(bytes(damaged))
            with contextlib.suppress(ValueError, FileNotFoundError):
                read()
        file.write_bytes(original)


# --- real data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco128(data_root):
    if not (data_root / "COCO128").is_dir():
        pytest.skip("COCO128 is not here")
    return data_root / "COCO128"


def test_coco128(coco128):
    dataset = load("coco", root=coco128)
    assert len(dataset) == 100
    assert len(dataset.classes) == 81
    file = coco.annotations(root=coco128)
    assert len(file["annotations"]) == 746
    places = {
        c["id"]: i for i, c in enumerate(sorted(file["categories"], key=lambda c: c["id"]), 1)
    }
    own = {}
    for annotation in file["annotations"]:
        own.setdefault(annotation["image_id"], []).append(annotation)
    n_crowd = 0
    for i in range(0, 100, 9):
        sample, entries = dataset[i], own.get(file["images"][i]["id"], [])
        assert f"{sample.name}.jpg" == file["images"][i]["file_name"]
        assert sample.instances.masks.sum(axis=(1, 2)).tolist() == [e["area"] for e in entries]
        assert sample.instances.classes.tolist() == [places[e["category_id"]] for e in entries]
        n_crowd += int(sample.instances.crowd.sum())
    assert n_crowd <= 6
    assert sum(e["iscrowd"] for e in file["annotations"]) == 6


def test_coco128_yolo(coco128):
    dataset = load("yolo", root=coco128)
    truth = load("coco", root=coco128)
    assert len(dataset) >= 100
    assert dataset.classes == truth.classes
    ious = []
    by_name = {image.stem: i for i, image in enumerate(dataset.read.args[1].entries)}
    for i in range(0, 100, 19):
        sample = truth[i]
        other = dataset[by_name[sample.name]]
        runs, others = rle.encode(sample.instances.masks), rle.encode(other.instances.masks)
        if len(runs) and len(others):
            ious += rle.iou(runs, others).max(axis=1).tolist()
    assert np.median(ious) > 0.8


@pytest.mark.slow
def test_coco128_there_and_back(coco128, tmp_path):
    """Every object of real images through outlines, without the loss of a pixel."""
    from segalgos.formats.convert import convert

    for name in ("yolo", "labelme", "coco"):
        out = tmp_path / name
        report = convert(coco128, out, source_format="coco", target_format=name, images="copy")
        assert report.n_instances == 746
        assert report.ious == []
        shutil.rmtree(out)
