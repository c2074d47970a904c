"""Methods that find regions, scored level by level, and their committed rows."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from segalgos.datasets.base import Sample

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "contours.py"
ROWS = SCRIPT.parent / "results" / "contours" / "bsds500"

# ODS of boundaries and of the covering, to two digits (Arbelaez 2011); merged superpixels are
# held to Felzenszwalb's.
PUBLISHED = {
    "felzenszwalb": (0.61, 0.52),
    "mean_shift": (0.64, 0.54),
    "normalized_cuts": (0.64, 0.45),
    "slic_merging": (0.61, 0.52),
    "pixel_cuts": (0.64, 0.45),
}
# On superpixels, cuts see mean colours alone, and no contour between two of them.
NOT_REACHED = {("normalized_cuts", "boundaries")}


def load_script():
    spec = importlib.util.spec_from_file_location("benchmark_of_contours", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def rows_of(name):
    return [json.loads(line) for line in (ROWS / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def sample():
    """Three fields of colour with noise; one annotator drew all, another left one out."""
    truth = np.zeros((120, 160), np.int32)
    truth[:, 60:], truth[70:, 60:] = 1, 2
    colors = np.array([(40, 60, 90), (200, 180, 60), (90, 200, 110)])
    noise = np.random.default_rng(0).integers(-15, 16, (120, 160, 3))
    image = (colors[truth] + noise).astype(np.uint8)
    return Sample(image=image, annotations=(truth, np.minimum(truth, 1)), name="fields")


@pytest.mark.parametrize("name", script.METHODS)
def test_levels_go_from_fine_to_coarse_past_the_truth(sample, name):
    method = script.METHODS[name]
    if "n_superpixels" in method.settings:
        method = method._replace(settings=method.settings | {"n_superpixels": 40})
    row = script.score_regions(name, [sample], method)
    n_regions = row["n_regions"]
    assert len(n_regions) == len(method.values) == len(row["values"])
    assert n_regions[0] >= 3 > n_regions[-1]
    assert row["boundaries"]["ods"] > 0.9
    assert row["regions"]["covering_ods"] > 0.8
    assert row["best_value_of_regions"] in method.values


def test_tuning_goes_on_and_a_row_replaces_its_like(sample, tmp_path, monkeypatch):
    path = tmp_path / "tuning.jsonl"
    method = script.METHODS["felzenszwalb"]._replace(
        values=(100.0, 1000.0), choices={"sigma": (0.5, 0.8), "size_per_scale": (0.5,)}
    )
    monkeypatch.setitem(script.METHODS, "felzenszwalb", method)
    script.tune("felzenszwalb", [sample], path)
    before = path.read_text()
    assert [row["settings"]["sigma"] for row in script.read(path)] == [0.5, 0.8]
    script.tune("felzenszwalb", [sample], path)
    assert path.read_text() == before
    script.add(script.read(path)[0] | {"n_images": 7}, path, ("method", "settings"))
    rows = script.read(path)
    assert [(row["settings"]["sigma"], row["n_images"]) for row in rows] == [(0.8, 1), (0.5, 7)]


def test_settings_are_the_best_of_the_tuning():
    best = {}
    for row in rows_of("tuning.jsonl"):
        score = row["boundaries"]["ods"] + row["regions"]["covering_ods"]
        if score > best.get(row["method"], (0,))[0]:
            best[row["method"]] = score, row["settings"]
    for name, method in script.METHODS.items():
        assert best[name][1] == method.settings, name


def test_committed_rows_are_of_these_methods_and_tell_what_is_reached():
    rows = {row["method"]: row for row in rows_of("regions.jsonl")}
    assert list(rows) == list(script.METHODS)
    for name, method in script.METHODS.items():
        row = rows[name]
        assert (row["settings"], tuple(row["values"])) == (method.settings, method.values)
        assert row["n_images"] == 100
        found = row["boundaries"]["ods"], row["regions"]["covering_ods"]
        for part, value, published in zip(("boundaries", "regions"), found, PUBLISHED[name]):
            reached = round(value, 2) >= published
            assert reached == ((name, part) not in NOT_REACHED), (name, part)
