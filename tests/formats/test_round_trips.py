"""Every format to every other one and back, compared by what the benchmark compares with."""

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segalgos import rle
from segalgos.formats import Annotation, Scene
from segalgos.formats.convert import FORMATS, write

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "round_trips.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("round_trips", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["round_trips"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hard(script, tmp_path_factory):
    """Holes, parts, overlaps, crowds, scores, void, single pixels, borders, empty images."""
    folder = tmp_path_factory.mktemp("hard")
    return script.generated(folder, n_images=4, seed=1), folder


@pytest.mark.parametrize("first", FORMATS)
def test_all_that_changes_is_told(script, hard, tmp_path, first):
    part, _ = hard
    write({"train": part}, tmp_path / first, first)
    for second in (name for name in FORMATS if name != first):
        row = script.round_trip(tmp_path / first, first, second, tmp_path / second)
        assert row["untold"] == {}, (first, second)
        assert row["images"] == 4
        maps = {"voc", "pennfudan", "cityscapes", "label_maps"}
        if second == "coco" or (first in maps - {"cityscapes"} and second not in maps):
            assert row["lowest_iou"] == 1
            assert not {"masks", "objects left out"} & set(row["differences"])
        if second == "coco":
            assert set(row["differences"]) <= {"void pixels"}


def test_the_comparison_can_fail(script, hard):
    """A pixel, a class, a flag, a score, an object: each change is found and, untold, is a bug."""
    part, _ = hard
    scene = next(s for s in part if len(s.annotations) > 3 and s.annotations[0].score is not None)
    first = scene.annotations[0]
    names = part.classes
    assert script.differences(scene, scene, names, names) == (Counter(), 1.0)
    reordered = replace(scene, annotations=scene.annotations[::-1])
    assert script.differences(scene, reordered, names, names)[0] == Counter()
    mask = rle.decode(rle.Runs.join(scene.size, [first.counts]))
    row, column = np.argwhere(mask[0])[0]
    mask[0, row, column] = False
    changes = {
        "masks": replace(first, counts=rle.encode(mask).counts),
        "classes": replace(first, category=(first.category + 1) % 3),
        "crowd flags": replace(first, crowd=not first.crowd),
        "scores": replace(first, score=first.score / 2),
    }
    for what, changed in changes.items():
        after = replace(scene, annotations=(changed, *scene.annotations[1:]))
        found, _ = script.differences(scene, after, names, names)
        assert found[what] == 1
        assert script.untold(found, [Counter(), Counter()])[what] == 1
        told = Counter({script.TOLD_AS[what][0]: 1})
        assert script.untold({what: 1}, [told, Counter()]) == Counter()
    fewer = replace(scene, annotations=scene.annotations[1:])
    assert script.differences(scene, fewer, names, names)[0] == {"objects left out": 1}
    found = script.differences(fewer, scene, names, names)[0]
    assert found == {"objects from nowhere": 1}
    assert script.untold(found, [Counter({"masks changed": 9})])


def test_objects_with_one_mask_are_told_apart(script):
    counts = rle.encode(np.ones((1, 3, 4), bool)).counts
    pair = (Annotation(counts, 0, True), Annotation(counts, 1, False))
    scene = Scene("a", (3, 4), pair)
    lost = replace(scene, annotations=(Annotation(counts, 0, False),))
    found, lowest = script.differences(scene, lost, ("a", "b"), ("a", "b"))
    assert found["objects left out"] == 1
    assert lowest == 1
    assert not found["classes"]
    assert not found["crowd flags"]
