"""The case study of pins: shapes, rows, scores by size and the inspection report."""

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from segalgos import Instances, datasets

HERE = Path(__file__).parents[1] / "examples" / "pins"


@pytest.fixture(scope="module")
def step():
    """``step("geometry")``: a script of the study, imported."""
    sys.path.insert(0, str(HERE))
    yield importlib.import_module
    sys.path.remove(str(HERE))
    for name in ("geometry", "study", "step2_classical", "step7_inspect"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def boards():
    return list(datasets.load("pins", split="val", n_images=3))


def rod(shape, base, length, lean, width=4, bow=0.0):
    """A straight or bowed rod from its base, leaning clockwise from straight up."""
    mask = np.zeros(shape, bool)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    for t in np.linspace(0, 1, 60):
        side = 4 * bow * length * t * (1 - t)
        angle = np.radians(lean)
        row = base[0] - t * length * np.cos(angle) + side * np.sin(angle)
        col = base[1] + t * length * np.sin(angle) + side * np.cos(angle)
        mask |= np.hypot(rows - row, cols - col) <= width / 2
    return mask


@pytest.mark.parametrize("lean", [-50, -8, 0, 25])
def test_a_rod_has_its_lean_base_and_length(step, lean):
    pin = step("geometry").measure(rod((100, 100), (70, 50), 40, lean))
    assert pin.lean == pytest.approx(lean, abs=2)
    assert np.hypot(*(pin.base - (70, 50))) < 4
    assert pin.length == pytest.approx(44, abs=3)
    assert pin.bow < 0.03


def test_a_bow_and_a_lean_are_bent(step):
    geometry = step("geometry")
    straight = geometry.measure(rod((100, 100), (70, 50), 40, 5))
    bowed = geometry.measure(rod((100, 100), (70, 50), 40, 5, bow=0.2))
    assert geometry.judge(straight, 3)[0] == geometry.UP
    assert geometry.judge(straight, 30)[0] == geometry.BENT
    assert geometry.judge(bowed, 5)[0] == geometry.BENT
    assert geometry.measure(np.zeros((9, 9), bool)) is None


def test_a_gap_in_a_row_is_a_missing_pin(step):
    geometry = step("geometry")
    shape = (160, 200)
    pins = [rod(shape, (70 + 0.1 * x, x), 30, 4) for x in (20, 40, 60, 100, 120, 180)]
    pins += [rod(shape, (140 + 0.1 * x, x), 30, 4) for x in (20, 40, 60, 80)]
    sites = geometry.inspect(pins)
    assert [(s.row, s.place) for s in sites if s.state == geometry.MISSING] == [
        (1, 4),
        (1, 7),
        (1, 8),
    ]
    gap = next(site for site in sites if site.state == geometry.MISSING)
    assert np.hypot(*(gap.at - (78, 80))) < 5
    assert len(sites) == 13
    assert geometry.inspect([]) == []


def test_perfect_masks_give_nearly_perfect_reports(step, boards):
    inspection = step("step7_inspect")
    truths = [board.instances for board in boards]
    scores = inspection.compare([(inspection.look(truth), truth) for truth in truths])
    assert scores["n_defects"] > 20
    assert scores["defect_recall"] > 0.93
    assert scores["defect_precision"] > 0.93
    # Without the holes, gaps inside rows still tell of some, and pins are as bent as they were.
    pins_only = [
        (step("geometry").inspect(list(truth.masks[truth.classes != 3])), truth) for truth in truths
    ]
    fewer = inspection.compare(pins_only)
    assert fewer["defect_recall"] < scores["defect_recall"]
    assert fewer["defect_recall"] > 0.6


def test_scores_count_by_size_and_state(step):
    study = step("study")
    masks = np.zeros((3, 40, 60), bool)
    masks[0, :8, :10] = masks[1, 20:30, :10] = masks[2, 20:40, 30:50] = True  # 80, 100, 400 pixels
    truth = Instances(masks, classes=[1, 2, 3])
    shifted = np.roll(masks[1], 2, axis=1)  # IoU 80 / 120
    found = Instances(np.stack([shifted, masks[2], masks[0] & False]), classes=[2, 1, 1])
    scores = study.score([found], [truth])
    assert scores["n_by_size"] == [1, 1, 1]
    assert scores["recall_by_size"] == {"small": 0.0, "medium": 1.0, "large": 1.0}
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["state_right"] == 0.5
    nothing = study.score([found[:0]], [truth[:0]])
    assert nothing["f1"] is None


def test_class_maps_become_objects(step):
    study = step("study")
    labels = np.zeros((20, 30), np.int32)
    labels[2:10, 3:6], labels[10:14, 3:6] = 1, 2  # one pin, mostly up
    labels[2:8, 15:21] = 3
    labels[18, 28] = 1  # dust
    objects = study.to_objects(labels)
    assert objects.classes.tolist() == [1, 3]
    assert objects.masks.sum(axis=(1, 2)).tolist() == [36, 36]
    assert len(study.to_objects(np.zeros((5, 5), np.int32))) == 0


def test_the_threshold_finds_pins_without_labels(step, boards):
    classical = step("step2_classical")
    found = classical.pick_pins(classical.by_threshold(boards[0].image), boards[0].image)
    assert step("study").score([found], [boards[0].instances])["recall"] > 0.15


def test_report_opens_offline_and_says_what_the_table_says(step, boards, tmp_path):
    inspection = step("step7_inspect")
    evil = datasets.Sample(boards[0].image, name="<script>alert(1)</script>")
    sites = inspection.look(boards[0].instances)
    inspection.write_page(tmp_path, [(evil, sites)])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "http" not in page
    with open(tmp_path / "inspection.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    n_bad = sum(line["state"] != "up" for line in lines)
    assert len(lines) == len(sites)
    assert f"{n_bad} of {len(sites)} pins bent or missing" in page
    assert page.count("<tr>") == n_bad
    assert (tmp_path / "board-000.png").stat().st_size > 10_000


def test_objects_and_rows_are_kept(step, boards, tmp_path):
    study = step("study")
    objects = [board.instances for board in boards[:2]]
    study.keep(tmp_path / "deep" / "m.npz", objects)
    for before, after in zip(objects, study.kept(tmp_path / "deep" / "m.npz", 2), strict=True):
        assert np.array_equal(before.masks, after.masks)
        assert np.array_equal(before.classes, after.classes)
    for value in (1, 2):
        study.add_row(tmp_path / "r.jsonl", {"method": "m", "data": "d", "seed": 0, "x": value})
    study.add_row(tmp_path / "r.jsonl", {"method": "m", "data": "d", "seed": 1, "x": 3})
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [row["x"] for row in rows] == [2, 3]
