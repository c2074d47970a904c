"""COCO's average precision against the evaluation codes of the field."""

import contextlib
import copy
import io
import warnings

import numpy as np
import pytest
from scipy import ndimage

from segalgos import rle
from segalgos.metrics import coco_average_precision

NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


def with_pycocotools(truth, detections, iou_type):
    coco = pytest.importorskip("pycocotools.coco", reason="compares with pycocotools")
    from pycocotools.cocoeval import COCOeval

    data = coco.COCO()
    data.dataset = truth
    data.createIndex()
    evaluation = COCOeval
    if iou_type == "boundary":  # which it does not have: masks, by other IoUs
        evaluation, iou_type = type("Boundary", (BoundaryEval, COCOeval), {}), "segm"
    run = evaluation(data, data.loadRes(detections), iou_type)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats


class BoundaryEval:
    """Makes pycocotools compare masks and boundaries, by eroding masks as the authors do."""

    def computeIoU(self, image, category):
        ious = super().computeIoU(image, category)
        truth, found = self._gts[image, category], self._dts[image, category]
        if not len(truth) or not len(found):
            return ious
        order = np.argsort([-d["score"] for d in found], kind="mergesort")[:100]
        rims = [rle_of_rim(g["segmentation"]) for g in truth]
        found_rims = [rle_of_rim(found[i]["segmentation"]) for i in order]
        from pycocotools import mask as codec

        crowd = np.array([g["iscrowd"] for g in truth], bool)
        thin = codec.iou(found_rims, rims, crowd.astype(int).tolist())
        ious[:, ~crowd] = np.minimum(ious, thin)[:, ~crowd]
        return ious


def rim_width(image):
    """How wide a boundary is in an image, in pixels."""
    return max(1, int(np.rint(0.02 * np.hypot(image["height"], image["width"]))))


def rle_of_rim(code):
    """COCO's code of the pixels near the outline of a mask."""
    from pycocotools import mask as codec

    mask = codec.decode(code).astype(bool)
    width = rim_width(dict(zip(("height", "width"), mask.shape)))
    deep = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width)
    return codec.encode(np.asfortranarray(mask & ~deep, np.uint8))


def with_faster_coco_eval(truth, detections, iou_type):
    module = pytest.importorskip("faster_coco_eval", reason="compares with faster-coco-eval")
    # In images lower than a boundary is wide its kernel finds fewer pixels than its OpenCV code.
    if iou_type == "boundary" and any(i["height"] <= rim_width(i) for i in truth["images"]):
        return None
    data = module.COCO(truth)
    run = module.COCOeval_faster(data, data.loadRes(detections), iou_type)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return np.asarray(run.stats)[:12]


@pytest.fixture(params=[with_pycocotools, with_faster_coco_eval])
def official(request):
    def evaluate(truth, detections, iou_type):
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return request.param(copy.deepcopy(truth), copy.deepcopy(detections), iou_type)

    return evaluate


def draw(rng, height, width):
    """A rectangle, of no area or one pixel at times, with holes at times."""
    mask = np.zeros((height, width), bool)
    if rng.random() < 0.15:
        mask[rng.integers(height), rng.integers(width)] = True
        return mask
    (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in (height, width))
    mask[top:bottom, left:right] = True
    return mask & (rng.random(mask.shape) < 0.8) if rng.random() < 0.3 else mask


def box_of(runs):
    top, left, bottom, right = (float(v) for v in rle.bounding_boxes(runs)[0])
    return [left, top, right - left, bottom - top]


def draw_touching(rng, image):
    """Strips that cover the image without a gap."""
    height, width = image["height"], image["width"]
    strips = np.searchsorted(np.sort(rng.integers(0, width, rng.integers(1, 5))), np.arange(width))
    return [np.broadcast_to(strips == i, (height, width)) for i in range(strips.max() + 1)]


def annotate(rng, image, categories, n, mask=None):
    """A true object: of any size, crowds among them, as polygons or run lengths."""
    height, width = image["height"], image["width"]
    if mask is not None:
        runs = rle.encode(mask[None])
        segmentation = rle.write(runs)[0]
    elif rng.random() < 0.4:
        polygons = [
            (rng.uniform(-0.1, 1.1, (k, 2)) * (width, height)).round(2).ravel().tolist()
            for k in rng.integers(3, 7, rng.integers(1, 3))
        ]
        runs = segmentation = rle.merge(rle.from_polygons(polygons, (height, width)))
        segmentation = polygons
    else:
        runs = rle.encode(draw(rng, height, width)[None])
        segmentation = rle.write(runs, compressed=bool(rng.random() < 0.5))[0]
    area = float(rle.areas(runs)[0]) if rng.random() < 0.8 else float(rng.uniform(0, 20_000))
    return runs, {
        "id": n + 1,
        "image_id": image["id"],
        "category_id": rng.choice(categories)["id"],
        "iscrowd": int(rng.random() < 0.2),
        "ignore": int(rng.random() < 0.1),  # which only crowds are, whatever this says
        "segmentation": segmentation,
        "bbox": box_of(runs),
        "area": area,
    }


def detect(rng, mask, image, category):
    """The mask, moved at times, with a score that others have as well."""
    if rng.random() < 0.6:
        mask = np.roll(mask, rng.integers(-3, 4), axis=rng.integers(2))
    runs = rle.encode(mask[None])
    return {
        "image_id": image["id"],
        "category_id": category,
        "score": float(rng.integers(8) / 8),
        "segmentation": rle.write(runs)[0],
        "bbox": box_of(runs),
    }


def scene(seed):
    """Some images, their true objects and what was found in them."""
    rng = np.random.default_rng(seed)
    categories = [{"id": int(3 * k + 1)} for k in rng.permutation(rng.integers(1, 4))]
    images = [
        {"id": int(7 * i + 3), "height": int(height), "width": int(width)}
        for i, (height, width) in enumerate(rng.integers(1, 160, (rng.integers(1, 6), 2)))
    ]
    annotations, detections = [], []
    for image in images:
        masks = [None] * rng.integers(0, 9)
        if rng.random() < 0.2:
            masks += draw_touching(rng, image)
        for mask in masks:
            runs, annotation = annotate(rng, image, categories, len(annotations), mask)
            annotations.append(annotation)
            for _ in range(rng.integers(0, 3)):
                same = rng.random() < 0.9
                category = annotation["category_id"] if same else rng.choice(categories)["id"]
                detections.append(detect(rng, rle.decode(runs)[0], image, category))
        if rng.random() < 0.05:  # more than are looked at
            for _ in range(130):
                mask = draw(rng, image["height"], image["width"])
                detections.append(detect(rng, mask, image, categories[0]["id"]))
    detections = [detections[i] for i in rng.permutation(len(detections))]
    if rng.random() < 0.5:  # areas are then those of the masks
        detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    truth = {"images": images, "categories": categories, "annotations": annotations, "info": {}}
    return truth, detections


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "boundary"])
@pytest.mark.parametrize("n_scenes", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_equals_the_official_numbers(official, iou_type, n_scenes):
    compared = 0
    for seed in range(n_scenes):
        truth, detections = scene(seed)
        if not detections:
            continue  # which pycocotools cannot read
        found = coco_average_precision(truth, detections, iou_type=iou_type)
        ours = np.nan_to_num([found[name] for name in NAMES], nan=-1)
        expected = official(truth, detections, iou_type)
        if expected is None:
            continue
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12, err_msg=f"scene {seed}")
        compared += 1
    assert compared > 0.7 * n_scenes


def test_scenes_have_all_that_is_hard():
    """Crowds, nothing to find, nothing found, ties, one pixel, neighbours that touch."""
    seen = dict.fromkeys(("crowd", "empty", "none", "ties", "tiny", "void", "touching"), 0)
    for seed in range(25):
        truth, detections = scene(seed)
        annotations = truth["annotations"]
        areas = [a["bbox"][2] * a["bbox"][3] for a in annotations]
        images = {a["image_id"] for a in annotations}
        scores = [d["score"] for d in detections]
        edges = {(a["image_id"], a["bbox"][0] + a["bbox"][2]) for a in annotations}
        seen["crowd"] += sum(a["iscrowd"] for a in annotations)
        seen["empty"] += len(truth["images"]) - len(images)
        seen["none"] += len({image["id"] for image in truth["images"]}
                            - {d["image_id"] for d in detections})  # fmt: skip
        seen["ties"] += len(scores) - len(set(scores))
        seen["tiny"] += areas.count(1)
        seen["void"] += areas.count(0)
        seen["touching"] += sum((a["image_id"], a["bbox"][0]) in edges for a in annotations)
    assert min(seen.values()) > 3, seen


def one_object():
    box = {"image_id": 1, "category_id": 5, "bbox": [2, 2, 10, 10]}
    return {
        "images": [{"id": 1, "height": 20, "width": 20}],
        "categories": [{"id": 5}, {"id": 2}],
        "annotations": [box],
    }, [box | {"score": 0.9}]


def test_absent_categories_and_sizes_are_nan():
    truth, detections = one_object()
    found = coco_average_precision(truth, detections, iou_type="bbox")
    assert found["categories"].tolist() == [2, 5]
    assert np.isnan(found["AP_per_category"][0])
    some = [found["AP"], found["AP_small"], found["AR1"], found["AP_per_category"][1]]
    assert some == pytest.approx([1, 1, 1, 1])
    assert np.isnan([found["AP_medium"], found["AR_large"]]).all()


def test_nothing_found_and_nothing_to_find():
    truth, detections = one_object()
    assert coco_average_precision(truth, [], iou_type="bbox")["AP"] == 0
    found = coco_average_precision(truth | {"annotations": []}, detections, iou_type="bbox")
    assert np.isnan(found["AP"])
    empty = {"images": [], "categories": [], "annotations": []}
    assert np.isnan(coco_average_precision(empty, [])["AP"])


def test_masks_are_drawn_from_boxes_where_there_are_none():
    truth, detections = one_object()
    found = coco_average_precision(truth, detections, iou_type="segm")
    assert found["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 9}, r"detections\[0\] is of image 9"),
        ({"score": None}, r"detections\[0\]\['score'\]"),
        ({"score": float("nan")}, r"detections\[0\]\['score'\]"),
        ({"bbox": [1, 2, 3]}, r"detections\[0\].*expected 4 finite numbers"),
        ({"bbox": None}, r"detections\[0\]"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, r"\(9, 9\), expected \(20, 20\)"),
        ({"segmentation": [[1, 2]]}, r"detections\[0\].*shape"),
    ],
)
def test_damaged_detections_are_named(change, words):
    truth, (detection,) = one_object()
    with pytest.raises(ValueError, match=words):
        coco_average_precision(truth, [detection | change])


def test_damaged_truth_is_named():
    truth, detections = one_object()
    with pytest.raises(ValueError, match="iou_type is 'masks'"):
        coco_average_precision(truth, detections, iou_type="masks")
    for key in truth:
        with pytest.raises(ValueError, match=f"truth has no list '{key}'"):
            coco_average_precision({k: v for k, v in truth.items() if k != key}, detections)
    with pytest.raises(ValueError, match=r"truth\['images'\]\[0\] has no 'height'"):
        coco_average_precision(truth | {"images": [{"id": 1}]}, detections)
    images = [{"id": 1, "height": "20", "width": 20}]
    with pytest.raises(ValueError, match=r"truth\['images'\]\[0\] has the size \('20', 20\)"):
        coco_average_precision(truth | {"images": images}, detections)
    with pytest.raises(ValueError, match=r"truth\['annotations'\]\[0\] has no 'category_id'"):
        coco_average_precision(truth | {"annotations": [{"image_id": 1}]}, detections)
