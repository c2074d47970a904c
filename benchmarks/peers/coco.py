"""COCO's average precision, ours and other packages', on generated objects and detections.

    pip install pycocotools faster-coco-eval
    python benchmarks/peers/coco.py --out FOLDER

The data are drawn, with the statistics of COCO val 2017: 5,000 images of 640 x 480 pixels, or on
their side, about 7.3 objects in each (36,000), of 80 categories of very unequal frequency; 41 % of
the objects are small, 34 % medium and 25 % large, 1.2 % are crowds in plain run lengths and the
others polygons of about 24 vertices, of one part or two. A detector gives 1 to 100 detections an
image, every number as often as any other (250,000 in all), with masks in packed run lengths and
boxes. Seven in ten are of an object, moved and deformed, at times of another category; the others
are anywhere. Scores have three digits, so that there are ties.

Everybody starts from the same dicts and ends with the 12 numbers, loading and indexing included.
Other packages write into their input; so they get shallow copies, which takes some tenths of a
second. The quality is the greatest difference of the 12 numbers from those of pycocotools (for
boundaries from those of faster-coco-eval), computed anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from measure import Task, main

from segalgos import rle
from segalgos.files import atomic_path
from segalgos.metrics import coco_average_precision

PACKAGES = ("numpy", "numba", "pycocotools", "faster-coco-eval")
NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
N_CATEGORIES = 80
OBJECTS_PER_IMAGE = 7.3
# Share of the objects, and the square roots of their areas in pixels.
SIZES = {"small": (0.41, 6, 32), "medium": (0.34, 32, 96), "large": (0.25, 96, 320)}
CROWDS = 0.012
VERTICES = 24
OF_AN_OBJECT, OF_ITS_CATEGORY = 0.7, 0.9


# --- data --------------------------------------------------------------------------------


def draw_side(rng):
    """The square root of an area in pixels, as often small, medium or large as in COCO."""
    shares, lows, highs = zip(*SIZES.values(), strict=True)
    kind = rng.choice(len(shares), p=shares)
    return float(np.exp(rng.uniform(np.log(lows[kind]), np.log(highs[kind]))))


def draw_outline(rng, center, side):
    """Vertices (n, 2), x and y, of a blob of about that size."""
    n = max(3, int(rng.poisson(VERTICES)))
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    waves = sum(
        rng.normal(0, 0.15 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3)
    )
    radii = side / np.sqrt(np.pi) * np.exp(waves)
    stretch = np.exp(rng.normal(0, 0.3))
    offsets = np.column_stack([np.cos(angles) * stretch, np.sin(angles) / stretch])
    return center + radii[:, None] * offsets


def mask_of(outlines, size):
    """Runs of one object."""
    return rle.merge(rle.from_polygons([o.round(2).ravel().tolist() for o in outlines], size))


def box_of(runs):
    """x, y, width, height."""
    top, left, bottom, right = (float(v) for v in rle.bounding_boxes(runs)[0])
    return [left, top, right - left, bottom - top]


def draw_object(rng, image, frequencies, number):
    """An annotation, and its outlines."""
    size = image["height"], image["width"]
    side = draw_side(rng)
    center = rng.uniform(0, 1, 2) * (size[1], size[0])
    outlines = [draw_outline(rng, center, side)]
    if rng.random() < 0.15:
        outlines.append(draw_outline(rng, center + rng.normal(0, side, 2), side / 2))
    outlines = [np.clip(o, 0, (size[1], size[0])) for o in outlines]
    runs = mask_of(outlines, size)
    crowd = bool(rng.random() < CROWDS)
    if crowd:
        segmentation = rle.write(runs, compressed=False)[0]
    else:
        segmentation = [o.round(2).ravel().tolist() for o in outlines]
    return outlines, {
        "id": number,
        "image_id": image["id"],
        "category_id": int(rng.choice(len(frequencies), p=frequencies)) + 1,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
        "bbox": box_of(runs),
        "area": float(rle.areas(runs)[0]),
    }


def draw_detection(rng, image, frequencies, objects):
    """A detection of one of the objects, or of something else."""
    size = image["height"], image["width"]
    real = len(objects) > 0 and rng.random() < OF_AN_OBJECT
    category = int(rng.choice(len(frequencies), p=frequencies)) + 1
    if real:
        outlines, annotation = objects[rng.integers(len(objects))]
        extent = np.sqrt(annotation["area"]) + 1
        blur = rng.gamma(2, 0.04) * extent
        outlines = [o + rng.normal(0, blur, 2) + rng.normal(0, blur / 3, o.shape) for o in outlines]
        if rng.random() < OF_ITS_CATEGORY:
            category = annotation["category_id"]
        score = rng.beta(3, 2) * np.exp(-blur / extent)
    else:
        center = rng.uniform(0, 1, 2) * (size[1], size[0])
        outlines = [draw_outline(rng, center, draw_side(rng))]
        score = rng.beta(1, 5)
    runs = mask_of([np.clip(o, 0, (size[1], size[0])) for o in outlines], size)
    return {
        "image_id": image["id"],
        "category_id": category,
        "score": round(float(score), 3),
        "segmentation": rle.write(runs)[0],
        "bbox": box_of(runs),
    }


def draw(n_images):
    """A data set of so many images and what was detected in them; always the same."""
    rng = np.random.default_rng(0)
    frequencies = 1 / np.arange(1, N_CATEGORIES + 1)
    frequencies /= frequencies.sum()
    images, annotations, detections = [], [], []
    for i in range(n_images):
        sides = (480, 640) if rng.random() < 0.75 else (640, 480)
        image = {"id": i + 1, "height": sides[0], "width": sides[1], "file_name": f"{i}.jpg"}
        images.append(image)
        # As spread as in COCO, where many images have one object and some have dozens.
        n_objects = rng.poisson(rng.gamma(1.2, OBJECTS_PER_IMAGE / 1.2))
        objects = [
            draw_object(rng, image, frequencies, len(annotations) + k + 1) for k in range(n_objects)
        ]
        annotations += [annotation for _, annotation in objects]
        detections += [
            draw_detection(rng, image, frequencies, objects) for _ in range(rng.integers(1, 101))
        ]
    categories = [{"id": k + 1, "name": f"category {k + 1}"} for k in range(N_CATEGORIES)]
    truth = {"images": images, "categories": categories, "annotations": annotations, "info": {}}
    return truth, detections


def kept_draw(n_images):
    """`draw`, kept in a file for the next process of this script as it is now."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"segalgos-coco-{n_images}-{version}.json"
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(draw(n_images)))
    return tuple(json.loads(path.read_text()))


def load_image(text):
    """Number of images, and a small one to warm up with."""
    return int(text), 20


def images(arguments):
    """Size -> what `load_image` understands."""
    return {"50 images": "50"} if arguments.small else {"5,000 images": "5000"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A try that takes no time."""
    parser.add_argument("--small", action="store_true", help="50 images only")


# --- contenders: (truth, detections) -> the 12 numbers, -1 where there is nothing to find ----


def ours(inputs, iou_type):
    """`segalgos.metrics.coco_average_precision`."""
    found = coco_average_precision(*inputs, iou_type=iou_type)
    return np.nan_to_num([found[name] for name in NAMES], nan=-1)


def copied(inputs):
    """Dicts of their own, whose entries are the same objects."""
    truth, detections = inputs
    lists = {key: [dict(entry) for entry in truth[key]] for key in truth if key != "info"}
    return truth | lists, [dict(entry) for entry in detections]


def pycocotools(inputs, iou_type):
    """COCO's own evaluation code."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, detections = copied(inputs)
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = truth
        data.createIndex()
        run = COCOeval(data, data.loadRes(detections), iou_type)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.asarray(run.stats)


def faster_coco_eval(inputs, iou_type):
    """Its rewrite in C++."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth, detections = copied(inputs)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = COCO(truth)
        run = COCOeval_faster(data, data.loadRes(detections), iou_type)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.asarray(run.stats)[:12]


def compare(reference, iou_type, inputs, output):
    """AP, and how far the 12 numbers are from the reference's."""
    difference = np.abs(output - reference(inputs, iou_type)).max()
    return {"AP": float(output[0]), "greatest difference": float(difference)}


def task(name, iou_type, *peers):
    """Ours and some peers on masks, boxes or boundaries."""
    contenders = {"segalgos": ours, **{peer.__name__.replace("_", "-"): peer for peer in peers}}
    return Task(
        name,
        kept_draw,
        {label: partial(call, iou_type=iou_type) for label, call in contenders.items()},
        partial(compare, peers[0], iou_type),
        {"pycocotools": (5.0, 15.0), "faster-coco-eval": (1.5, None)},
        ("5,000 images", "50 images"),
    )


TASKS = [
    task("COCO AP of masks", "segm", pycocotools, faster_coco_eval),
    task("COCO AP of boxes", "bbox", pycocotools, faster_coco_eval),
    task("COCO AP of boundaries", "boundary", faster_coco_eval),
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)
