"""Panoptic quality against its definition, segment by segment, and against COCO's own code."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from segalgos.metrics import (
    PanopticMap,
    panoptic_counts,
    panoptic_scores,
    panoptic_scores_from_counts,
)

N_CLASSES = 5
THINGS = (0, 1, 3)


def truth_scene(rng):
    """Blocks of a few classes, some void, at times crowds."""
    shape = rng.integers(1, 24, 2)
    coarse = rng.integers(0, rng.integers(2, 9), shape)
    segments = np.kron(coarse, np.ones(rng.integers(1, 4, 2), int))
    segments[rng.random(segments.shape) < 0.1] = 0
    segments = np.where(segments == 0, -1, 3 * segments + 2)  # gaps between ids
    ids = [int(i) for i in np.unique(segments) if i >= 0]
    classes = {i: int(rng.integers(N_CLASSES)) for i in rng.permutation(ids).tolist()}
    crowd = [i for i in ids if rng.random() < 0.3 and classes[i] in THINGS]
    return PanopticMap(segments, classes, crowd)


def found_scene(rng, truth):
    """The truth with noise, other ids, wrong classes at times and pixels left open."""
    segments = truth.segments.copy()
    block = segments[rng.integers(len(segments)) :, rng.integers(segments.shape[1]) :]
    block[:] = rng.integers(40, 44, block.shape) if rng.random() < 0.5 else 40
    noisy = rng.random(segments.shape) < rng.choice([0, 0.1, 0.4])
    segments[noisy] = rng.permutation(segments.ravel())[: noisy.sum()]
    if rng.random() < 0.5:
        segments[segments == -1] = 50
    ids, inverse = np.unique(segments, return_inverse=True)
    numbers = np.where(ids < 0, -1, rng.permutation(len(ids)) + 1)
    classes = {
        int(number): truth.classes.get(int(i), int(rng.integers(N_CLASSES)))
        if rng.random() < 0.9
        else int(rng.integers(N_CLASSES))
        for i, number in zip(ids, numbers, strict=True)
        if i >= 0
    }
    return PanopticMap(numbers[inverse].reshape(segments.shape), classes)


def scene(seed):
    rng = np.random.default_rng(seed)
    truth = truth_scene(rng)
    return found_scene(rng, truth), truth


def by_definition(found, truth):
    """TP, FP, FN and summed IoU of each class, mask by mask."""
    counts, total = np.zeros((N_CLASSES, 3), int), np.zeros(N_CLASSES)
    void = truth.segments == -1
    matched = set()
    for i, k in found.classes.items():
        mask = found.segments == i
        hit = False
        for j, true_k in truth.classes.items():
            true_mask = truth.segments == j
            if true_k == k and j not in truth.crowd:
                iou = (mask & true_mask).sum() / ((mask | true_mask) & ~(void & mask)).sum()
                if iou > 0.5:
                    counts[k, 0] += 1
                    total[k] += iou
                    matched.add(j)
                    hit = True
        harmless = void.copy()
        for j in [j for j, true_k in truth.classes.items() if true_k == k and j in truth.crowd][
            -1:
        ]:
            harmless |= truth.segments == j
        if not hit and (mask & harmless).sum() / mask.sum() <= 0.5:
            counts[k, 1] += 1
    for j, k in truth.classes.items():
        counts[k, 2] += j not in truth.crowd and j not in matched
    return counts, total


@pytest.mark.parametrize("part", range(5))
def test_equals_the_definition(part):
    seen = np.zeros(3, int)
    for seed in range(100 * part, 100 * part + 100):
        found, truth = scene(seed)
        counts, matched_iou = panoptic_counts(found, truth, N_CLASSES)
        expected, total = by_definition(found, truth)
        np.testing.assert_array_equal(counts, expected, err_msg=f"scene {seed}")
        np.testing.assert_allclose(matched_iou, total, rtol=0, atol=1e-12)
        seen += counts.sum(axis=0)
    assert (seen > 50).all()


def in_coco_format(folder, kind, maps):
    """Write maps as PNG files and JSON; gives the annotations."""
    annotations = []
    for number, each in enumerate(maps):
        ids = each.segments + 1  # 0 is void there
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        name = f"{number}.png"
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(colours).save(folder / kind / name)
        info = [
            {
                "id": i + 1,
                "category_id": k,
                "iscrowd": int(i in each.crowd),
                "area": int((each.segments == i).sum()),
            }
            for i, k in each.classes.items()
        ]
        annotations.append({"image_id": number, "file_name": name, "segments_info": info})
    categories = [{"id": k, "isthing": int(k in THINGS)} for k in range(N_CLASSES)]
    (folder / f"{kind}.json").write_text(
        json.dumps({"annotations": annotations, "categories": categories})
    )
    return annotations


def with_panopticapi(folder, categories):
    evaluation = pytest.importorskip("panopticapi.evaluation", reason="compares with panopticapi")
    parts = [json.loads((folder / f"{kind}.json").read_text()) for kind in ("truth", "found")]
    pairs = list(zip(*(part["annotations"] for part in parts), strict=True))
    folders = (str(folder / "truth"), str(folder / "found"))
    with contextlib.redirect_stdout(io.StringIO()):
        found = evaluation.pq_compute_single_core(0, pairs, *folders, categories)
    return found


@pytest.mark.parametrize("n_scenes", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_equals_coco(tmp_path, n_scenes):
    categories = {k: {"isthing": int(k in THINGS)} for k in range(N_CLASSES)}
    pairs = [scene(seed) for seed in range(n_scenes)]
    found, truths = zip(*pairs, strict=True)
    in_coco_format(tmp_path, "truth", truths)
    in_coco_format(tmp_path, "found", found)
    official = with_panopticapi(tmp_path, categories)
    scores = panoptic_scores(found, truths, N_CLASSES, things=THINGS)
    for part, isthing in (("", None), ("_things", True), ("_stuff", False)):
        means, per_class = official.pq_average(categories, isthing=isthing)
        for name in ("pq", "sq", "rq"):
            assert scores[f"mean_{name}_dataset{part}"] == pytest.approx(means[name], abs=1e-12)
            for k, values in per_class.items():
                assert scores[f"{name}_per_class"][k] == pytest.approx(values[name], abs=1e-12)


def test_coco_format_is_read(tmp_path):
    found, truth = scene(3)
    (annotation,) = in_coco_format(tmp_path, "truth", [truth])
    colours = np.asarray(Image.open(tmp_path / "truth" / "0.png"))
    again = PanopticMap.from_coco(colours, annotation["segments_info"])
    np.testing.assert_array_equal(
        again.segments, np.where(truth.segments < 0, -1, truth.segments + 1)
    )
    categories = list(range(N_CLASSES))[::-1]
    turned = PanopticMap.from_coco(colours, annotation["segments_info"], categories)
    assert turned.classes == {i: N_CLASSES - 1 - k for i, k in again.classes.items()}
    expected = panoptic_counts(found, truth, N_CLASSES)
    np.testing.assert_array_equal(panoptic_counts(found, again, N_CLASSES)[0], expected[0])
    with pytest.raises(ValueError, match=r"segments_info\[0\] is of category"):
        PanopticMap.from_coco(colours, annotation["segments_info"], [77])
    with pytest.raises(ValueError, match=r"segments_info\[0\] has no 'category_id'"):
        PanopticMap.from_coco(colours, [{"id": 1}])


def test_by_hand():
    # Road: IoU 3/4. Of two cars one is found with 2/3 (void does not count), the other missed.
    truth = PanopticMap(np.array([[0, 0, 0, 0, 7, 7, -1, 8]]), {0: 0, 7: 1, 8: 1})
    found = PanopticMap(np.array([[0, 0, 0, 5, 5, 5, 5, -1]]), {0: 0, 5: 1})
    scores = panoptic_scores(found, truth, ["road", "car", "sky"], things=[1])
    np.testing.assert_allclose(scores["sq_per_class"], [3 / 4, 2 / 3, np.nan])
    np.testing.assert_allclose(scores["rq_per_class"], [1, 2 / 3, np.nan])
    np.testing.assert_allclose(scores["pq_per_class"], [3 / 4, 4 / 9, np.nan])
    assert scores["mean_pq_dataset"] == pytest.approx((3 / 4 + 4 / 9) / 2)
    assert scores["mean_pq_dataset_things"] == pytest.approx(4 / 9)
    assert scores["mean_pq_dataset_stuff"] == pytest.approx(3 / 4)
    assert np.isnan(panoptic_scores(found, truth, 3)["mean_pq_dataset_stuff"])


def test_void_and_crowds_are_no_mistake():
    truth = PanopticMap(np.array([[-1, -1, 4, 4, 4, 9]]), {4: 0, 9: 1}, crowd=[4])
    found = PanopticMap(np.array([[1, 1, 2, 2, 3, 3]]), {1: 1, 2: 0, 3: 0})
    counts, _ = panoptic_counts(found, truth, 2)
    # 1 is void and 2 a crowd; half of 3 is a crowd, which is not more than half.
    np.testing.assert_array_equal(counts, [[0, 1, 0], [0, 0, 1]])


def test_an_iou_of_one_half_is_no_match():
    truth = PanopticMap(np.array([[1, 1]]), {1: 0})
    found = PanopticMap(np.array([[1, -1]]), {1: 0})
    np.testing.assert_array_equal(panoptic_counts(found, truth, 1)[0], [[0, 1, 1]])


def test_no_segments():
    empty = PanopticMap(np.full((2, 3), -1), {})
    scores = panoptic_scores(empty, empty, 2, things=[0])
    assert np.isnan(scores["pq_per_class"]).all()
    assert np.isnan(scores["mean_pq_dataset"])
    whole = PanopticMap(np.zeros((2, 3), int), {0: 1})
    assert panoptic_scores(empty, whole, 2)["mean_pq_dataset"] == 0
    assert np.isnan(panoptic_scores(whole, empty, 2)["mean_pq_dataset"])  # all of it is void


def test_counts_of_images_add_up():
    pairs = [scene(seed) for seed in range(6)]
    counts, ious = zip(*(panoptic_counts(*pair, N_CLASSES) for pair in pairs), strict=True)
    joined = panoptic_scores_from_counts(np.stack(counts), np.stack(ious), things=THINGS)
    expected = panoptic_scores(*zip(*pairs, strict=True), N_CLASSES, things=THINGS)
    for name, value in expected.items():
        np.testing.assert_array_equal(joined[name], value)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.zeros((2, 2)), {0: 0}), TypeError, "segments has dtype float64"),
        ((np.zeros(4, int), {0: 0}), ValueError, r"segments has shape \(4,\)"),
        ((np.zeros((2, 2), int), {}), ValueError, "segments holds the id 0, which has no class"),
        ((np.zeros((2, 2), int), {0: -1}), ValueError, "classes holds -1"),
        ((np.zeros((2, 2), int), {0: "car"}), ValueError, "classes holds 'car'"),
        ((np.zeros((2, 2), int), [0]), TypeError, "classes is a list"),
        ((np.zeros((2, 2), int), {0: 1}, [3]), ValueError, "crowd holds 3"),
    ],
)
def test_bad_maps(arguments, error, words):
    with pytest.raises(error, match=words):
        PanopticMap(*arguments)


def test_bad_arguments():
    good = PanopticMap(np.zeros((2, 2), int), {0: 1})
    with pytest.raises(TypeError, match=r"predictions\[0\] is a ndarray"):
        panoptic_scores([good.segments], good, 2)
    with pytest.raises(ValueError, match="got 2 predictions and 1 truths"):
        panoptic_scores([good, good], good, 2)
    with pytest.raises(ValueError, match="predictions is empty"):
        panoptic_scores([], good, 2)
    with pytest.raises(ValueError, match=r"predictions\[0\] holds the class 1, with 1 classes"):
        panoptic_scores(good, good, 1)
    with pytest.raises(ValueError, match=r"has shape \(2, 2\), truths\[0\] has \(3, 2\)"):
        panoptic_scores(good, PanopticMap(np.zeros((3, 2), int), {0: 1}), 2)
    with pytest.raises(ValueError, match=r"the segment 4 of predictions\[0\] has no pixel"):
        panoptic_scores(PanopticMap(good.segments, {0: 1, 4: 1}), good, 2)
    with pytest.raises(ValueError, match="things holds 2, expected class ids from 0 to 1"):
        panoptic_scores(good, good, 2, things=[2])
    with pytest.raises(ValueError, match=r"counts has shape \(2, 3\)"):
        panoptic_scores_from_counts(np.zeros((2, 3), int), np.zeros(2))
