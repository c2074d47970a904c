"""Label files that somebody wrote to do harm: each is refused in a line, or read as plain text."""

import base64
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segalgos import datasets
from segalgos.formats import coco, label_maps, labelme, voc, yolo
from segalgos.formats.convert import FORMATS, convert

SIZE = (12, 16)
SQUARE = [3, 2, 9, 2, 9, 6, 3, 6]
NASTY_NAME = "<script>alert('x')</script> \"q\" & 'r' \x1b[31m[red]"
OUTSIDE = [
    "../../secret.png",
    "/etc/passwd",
    "..\\..\\secret.png",
    "C:\\secret.png",
    "a\0.png",
    "..",
]


def photo(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return path


def write_coco(root, name="a.png", category="cat", **changes):
    photo(root / "images" / "a.png")
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
    image = {"id": 1, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
    for key, value in changes.items():
        (image if key in ("height", "width") else entry)[key] = value
    content = {"images": [image], "annotations": [entry]}
    content["categories"] = [{"id": 1, "name": category}]
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def write_yolo(root, yaml="path: .\ntrain: images\nnames: [cat]\n", line="0 .2 .2 .6 .2 .6 .6"):
    photo(root / "images" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text(line + "\n")
    (root / "data.yaml").write_text(yaml)
    return root


def write_labelme(root, **changes):
    photo(root / "a.png")
    points = np.reshape(SQUARE, (-1, 2)).tolist()
    shape = {"label": "cat", "points": points, "shape_type": "polygon", "group_id": None}
    content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 12, "imageWidth": 16}
    for key, value in changes.items():
        (content if key.startswith("image") else shape)[key] = value
    (root / "a.json").write_text(json.dumps(content))
    return root


def write_voc(root, xml="", names="a\n"):
    photo(root / "JPEGImages" / "a.png")
    for part in ("SegmentationObject", "SegmentationClass"):
        (root / part).mkdir()
        labels = np.zeros(SIZE, np.uint8)
        labels[2:6, 3:9] = 1
        Image.fromarray(labels).save(root / part / "a.png")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text(xml or "<annotation></annotation>")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(names)
    return root


def read_all(module, root):
    return [scene.to_instances() for part in module.read(root).values() for scene in part]


def refused(module, root, words):
    """Reading raises one plain line that names the file."""
    with pytest.raises(ValueError, match=words) as caught:
        read_all(module, root)
    text = str(caught.value)
    assert str(root) in text
    assert len(text) < 400 + len(str(root))


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_out_of_the_folder(tmp_path, name):
    photo(tmp_path / "secret.png")
    refused(coco, write_coco(tmp_path / "x" / "coco", name), "leads down")
    # Of labelme's, only the last part of the name counts, and that only in the folder.
    root = write_labelme(tmp_path / "x" / "labelme", imagePath=name)
    if name in ("a\0.png", ".."):
        refused(labelme, root, "leads down")
    else:
        (scene,) = labelme.read(root)[""]
        assert scene.image == root / "a.png"
    stem = name.replace("\0", "_")
    refused(voc, write_voc(tmp_path / "x" / "voc", names=f"{stem}\n"), "there is no")


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_files_are_text(tmp_path, name):
    """Quotes, spaces and tags in the name of an image come back; no part of it is run or lost."""
    nasty = 'it\'s <b>a "photo" & [red] 100% $(x);'
    root = write_coco(tmp_path / "in", f"{nasty}.png")
    (root / "images" / "a.png").rename(root / "images" / f"{nasty}.png")
    convert(root, tmp_path / "out", target_format=name)
    (part,) = FORMATS[name].read(tmp_path / "out").values()
    (scene,) = part
    assert scene.image.is_file()
    if name != "cityscapes":
        assert scene.name == nasty


@pytest.mark.parametrize("key", ["path", "train", "list"])
@pytest.mark.parametrize("absolute", [False, True])
def test_yolo_does_not_leave_its_folder(tmp_path, key, absolute):
    photo(tmp_path / "private" / "b.png")
    outside = str(tmp_path / "private") if absolute else "../private"
    lines = {"path": ".", "train": "images", "names": "[cat]"}
    root = tmp_path / "set"
    if key == "list":
        lines["train"] = "list.txt"
        root.mkdir()
        (root / "list.txt").write_text(f"{outside}/b.png\n")
    elif key == "path":
        lines |= {"path": str(tmp_path) if absolute else "..", "train": "private"}
    else:
        lines["train"] = outside
    write_yolo(root, "".join(f"{k}: {v}\n" for k, v in lines.items()))
    refused(yolo, root, "leads out of the folder")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, 10**400])
def test_coordinates_that_are_no_places(tmp_path, value):
    polygon = [value, *SQUARE[1:]]
    refused(coco, write_coco(tmp_path / "coco", segmentation=[polygon]), "annotations")
    refused(coco, write_coco(tmp_path / "box", segmentation=[], bbox=[value, 1, 2, 3]), "bbox")
    points = np.reshape(SQUARE, (-1, 2)).tolist()
    refused(labelme, write_labelme(tmp_path / "lm", points=[[value, 1], *points]), "points")
    refused(yolo, write_yolo(tmp_path / "yolo", line=f"0 {value} .2 .6 .2 .6 .6"), "line 1")


@pytest.mark.parametrize(
    "value", [10**9, 10**30, 1e308, float("nan"), -3, 0, 0.5, "12", None, True]
)
def test_sizes_that_would_fill_memory(tmp_path, value):
    """Refused by the number alone; None means that the image tells it."""
    if value is None:
        assert coco.read(write_coco(tmp_path / "coco", height=value))[""][0].size == SIZE
        return
    refused(coco, write_coco(tmp_path / "coco", height=value, width=10**5), "size")
    refused(labelme, write_labelme(tmp_path / "lm", imageHeight=value, imageWidth=10**5), "size")


def bomb(side=60_000):
    """A PNG of 3.6 gigapixels in some bytes."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_pictures_that_would_fill_memory(tmp_path):
    code = base64.b64encode(bomb()).decode()
    root = write_labelme(tmp_path / "lm", shape_type="mask", mask=code, points=[[0, 0], [1, 1]])
    refused(labelme, root, "no picture in base64")
    (tmp_path / "maps" / "masks").mkdir(parents=True)
    (tmp_path / "maps" / "masks" / "a.png").write_bytes(bomb())
    refused(label_maps, tmp_path / "maps", "more pixels")
    root = write_yolo(tmp_path / "yolo")
    (root / "images" / "a.png").write_bytes(bomb())
    refused(yolo, root, "pixels")
    report = datasets.check(root)
    assert not report.healthy
    many = {"size": [2**31, 2**31], "counts": [2**62]}
    refused(coco, write_coco(tmp_path / "coco", segmentation=many), "annotations")


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>',
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
)


@pytest.mark.parametrize("xml", ENTITIES)
def test_entities_of_xml(tmp_path, xml):
    refused(voc, write_voc(tmp_path / "voc", xml), "document type or entities")


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images\nnames: !!python/object/apply:os.system [ls]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\ntrain: images\nnames: [cat]\n",
        "train: images\nnames: " + "[" * 2000 + "]" * 2000 + "\n",
    ],
)
def test_tags_and_anchors_of_yaml(tmp_path, yaml):
    refused(yolo, write_yolo(tmp_path / "yolo", yaml), "data.yaml, line")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "", "\0", "1e999999", "nul"])
def test_json_that_is_none(tmp_path, text):
    root = write_coco(tmp_path / "coco")
    (root / "annotations.json").write_text(text)
    refused(coco, root, "annotations.json")
    root = write_labelme(tmp_path / "lm")
    (root / "a.json").write_text(text)
    refused(labelme, root, "a.json")


@pytest.mark.parametrize("name", FORMATS)
def test_names_are_text(tmp_path, name):
    """Script tags, quotes and escapes in names of classes come back as they are, or are refused."""
    root = write_coco(tmp_path / "in", category=NASTY_NAME)
    if name in ("pennfudan", "cityscapes", "label_maps"):
        assert convert(root, tmp_path / "out", target_format=name).losses
        return
    if name == "voc":  # its lists and XML cannot hold control characters
        with pytest.raises(ValueError, match=r"voc: the class .* rename it"):
            convert(root, tmp_path / "out", target_format=name)
        root = write_coco(tmp_path / "plain", category=NASTY_NAME.replace("\x1b", ""))
    report = convert(root, tmp_path / "out", target_format=name)
    assert report.lossless
    (part,) = FORMATS[name].read(tmp_path / "out").values()
    assert part.classes[-1] == (NASTY_NAME if name != "voc" else NASTY_NAME.replace("\x1b", ""))
    assert len(part[0].annotations) == 1
    assert datasets.check(tmp_path / "out").counts.get("label out of range", 0) == 0
