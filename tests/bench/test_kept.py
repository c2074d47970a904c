"""Objects and prompts that the runner keeps: there and back, smaller, and damaged."""

import base64
import json

import numpy as np
import pytest

from segalgos.bench import cell, kept, suite
from segalgos.bench.user import dab
from segalgos.files import read_labels
from segalgos.results import Instances, Prompts

SIZE = (40, 60)


def overlapping():
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 4:24, 6:36] = masks[1, 14:30, 20:50] = masks[2, 32:40, 40:60] = True
    boxes = [[4, 6, 24, 36], [14, 20, 30, 50], [31.5, 39, 40, 60]]
    return Instances(masks, [0.25, 0.875, 0.5], [1, 3, 1], boxes)


def everything():
    scribbles = np.full(SIZE, -1)
    scribbles[5:8, 10:50], scribbles[20, 30] = 0, 7
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:40] = True
    return Prompts([[3, 5], [39.5, 59]], [1, 0], [[1.5, 2, 30, 50]], scribbles, mask)


def kept_file(tmp_path, content):
    path = tmp_path / "3-kept.json"
    path.write_bytes(content)
    return path


def test_objects_come_back_with_overlaps_and_scores(tmp_path):
    objects = overlapping()
    path = kept_file(tmp_path, kept.write_objects(objects))
    back = kept.read_objects(path, SIZE, SIZE)
    for name in ("masks", "scores", "classes", "boxes"):
        assert np.array_equal(getattr(back, name), getattr(objects, name)), name
    assert path.stat().st_size < 1000


def test_objects_shrink_with_their_picture(tmp_path):
    path = kept_file(tmp_path, kept.write_objects(overlapping()))
    small = kept.read_objects(path, SIZE, (20, 30))
    assert np.array_equal(small.masks, overlapping().masks[:, ::2, ::2])
    assert small.boxes[2].tolist() == [15.75, 19.5, 20, 30]


def test_no_objects(tmp_path):
    path = kept_file(tmp_path, kept.write_objects(Instances(np.zeros((0, *SIZE), bool))))
    back = kept.read_objects(path, SIZE, (20, 30))
    assert (len(back), back.shape) == (0, (20, 30))


def test_of_very_many_objects_the_surest_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_OBJECTS", 2)
    rng = np.random.default_rng(0)
    masks = np.zeros((9, *SIZE), bool)
    masks[np.arange(9), np.arange(9)] = True
    scores = rng.permutation(9) / 10
    path = kept_file(tmp_path, kept.write_objects(Instances(masks, scores)))
    back = kept.read_objects(path, SIZE, SIZE)
    best = np.sort(np.argsort(-scores)[:2])
    assert np.allclose(back.scores, scores[best])
    assert np.array_equal(back.masks, masks[best])


def test_prompts_come_back(tmp_path):
    prompts = everything()
    path = kept_file(tmp_path, kept.write_prompts(prompts, SIZE))
    back = kept.read_prompts(path, SIZE, SIZE)
    for name in ("point_labels", "boxes", "scribbles", "mask"):
        assert np.array_equal(getattr(back, name), getattr(prompts, name)), name
    assert np.array_equal(np.floor(back.points), np.floor(prompts.points))  # the same pixels
    assert path.stat().st_size < 1000


def test_prompts_shrink_and_no_stroke_is_lost(tmp_path):
    path = kept_file(tmp_path, kept.write_prompts(everything(), SIZE))
    small = kept.read_prompts(path, SIZE, (10, 15))
    assert small.scribbles[5, 7] == 7  # one pixel of sixteen
    assert np.unique(small.scribbles).tolist() == [-1, 0, 7]
    assert small.boxes.tolist() == [[0.375, 0.5, 7.5, 12.5]]
    assert np.floor(small.points).tolist() == [[0, 1], [9, 14]]
    assert small.mask[3:7, 3:10].all()
    assert not small.mask[8:].any()


def test_rough_mask_that_vanishes_is_left_out(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[0, 0] = True
    path = kept_file(tmp_path, kept.write_prompts(Prompts(points=[[1, 1]], mask=mask), SIZE))
    assert kept.read_prompts(path, SIZE, (10, 15)).mask is None
    path = kept_file(tmp_path, kept.write_prompts(Prompts(mask=mask), SIZE))
    with pytest.raises(ValueError, match="nothing given"):
        kept.read_prompts(path, SIZE, (10, 15))


CODE = {"size": list(SIZE), "counts": [2400]}


@pytest.mark.parametrize(
    "change",
    [
        {"size": [40, 61]},
        {"size": "40"},
        {"objects": None},
        {"objects": [3]},
        {"objects": [{"segmentation": {"size": list(SIZE), "counts": [7]}}]},
        {"objects": [{"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}]},
        {"objects": [{"segmentation": CODE, "score": "high"}]},
        {"objects": [{"segmentation": CODE, "score": float("nan")}]},
        {"objects": [{"segmentation": CODE, "bbox": [1, 2, 3]}]},
    ],
    ids=str,
)
def test_damaged_objects_are_an_error(tmp_path, change):
    content = json.loads(kept.write_objects(overlapping())) | change
    path = kept_file(tmp_path, json.dumps(content).encode())
    with pytest.raises(ValueError, match=r"\w"):
        kept.read_objects(path, SIZE, SIZE)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [41, 60]},
        {"points": [[50, 2], [3, 3]]},
        {"points": "here"},
        {"points": [[1e400, 2], [3, 3]]},
        {"point_labels": [1]},
        {"boxes": [[3, 3, 2, 9]]},
        {"boxes": {"a": 1}},
        {"scribbles": 3},
        {"scribbles": [[1]]},
        {"scribbles": [[-5, CODE]]},
        {"scribbles": [["1", {**CODE, "counts": [0, 2400]}]]},
        {"scribbles": [[10**30, {**CODE, "counts": [0, 2400]}]]},
        {"scribbles": [[1, {"size": [40, 61], "counts": [2440]}]]},
        {"mask": CODE},
        {"mask": None},
    ],
    ids=str,
)
def test_damaged_prompts_are_an_error(tmp_path, change):
    content = json.loads(kept.write_prompts(everything(), SIZE)) | change
    path = kept_file(tmp_path, json.dumps(content).encode())
    with pytest.raises(ValueError, match=r"\w"):
        kept.read_prompts(path, SIZE, SIZE)


@pytest.mark.parametrize("content", [b"", b"[]", b"{torn", b"\xff\xfe", b"[" * 200_000])
def test_files_of_anything_else_are_an_error(tmp_path, content):
    path = kept_file(tmp_path, content)
    for read in (kept.read_objects, kept.read_prompts):
        with pytest.raises(ValueError, match=r"\w"):
            read(path, SIZE, SIZE)


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    path = kept_file(tmp_path, kept.write_objects(overlapping()))
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="has more than 100 bytes"):
        kept.read_objects(path, SIZE, SIZE)


def run_cell(method, tiny):
    """The files that a cell of the smallest data set keeps, and the data set."""
    data = suite.parse_data(tiny)[0]
    chosen = suite.Cell(suite.parse_methods(method)[0], data, 0, "train", "test", 1.0, tune=False)
    files = cell.run(chosen)["pictures"]
    return {name.split("/")[-1]: base64.b64decode(text) for name, text in files.items()}, data


def test_cells_of_interactive_methods_keep_their_prompts(tiny, tmp_path):
    files, data = run_cell("graph_cut", tiny)
    assert not [name for name in files if name.endswith("objects.json")]
    for i, sample in enumerate(data.load("test")):
        path = kept_file(tmp_path, files[f"{i}-prompts.json"])
        back = kept.read_prompts(path, sample.labels.shape, sample.labels.shape)
        assert np.array_equal(back.scribbles, dab(sample.labels).scribbles)


def test_cells_of_methods_that_find_objects_keep_them(tiny, tmp_path):
    files, data = run_cell("boundary_instances[estimator='random_forest',min_size=1]", tiny)
    n_objects = 0
    assert not [name for name in files if name.endswith("prompts.json")]
    for i, sample in enumerate(data.load("test")):
        path = kept_file(tmp_path, files[f"{i}-objects.json"])
        back = kept.read_objects(path, sample.labels.shape, sample.labels.shape)
        (tmp_path / "map.png").write_bytes(files[f"{i}-instance.png"])
        assert np.array_equal(back.masks.any(axis=0), read_labels(tmp_path / "map.png") != 65535)
        n_objects += len(back)
    assert n_objects
