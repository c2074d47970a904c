"""The rows of pretraining without labels: what they compare, and the tables made of them."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "benchmarks" / "results" / "training" / "pretrain" / "results.jsonl"
TABLES = ROOT / "benchmarks" / "training" / "pretrain_tables.py"
rows = [json.loads(line) for line in ROWS.read_text().splitlines()]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("pretrain_tables", TABLES)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def partner(row):
    """The run that a run from scratch is held against."""
    name = row["run"].replace("scratch", "self_supervised")
    return next(other for other in rows if other["run"] == name)


@pytest.mark.parametrize(
    "row", [r for r in rows if r["net"] == "scratch"], ids=lambda row: row["run"]
)
def test_scratch_had_no_less_time_and_the_same_labels(row):
    other = partner(row)
    assert row["cpu_seconds"] >= other["cpu_seconds"] + other["pretraining_cpu_seconds"]
    for key in ("segmenter", "n_parameters", "n_labelled", "train"):
        assert row[key] == other[key]
    changed = {k for k, v in row["parameters"].items() if other["parameters"][k] != v}
    assert changed == {"epochs"}


def test_the_gain_is_that_of_each_seed(tables):
    def made(net, seed, score, label=""):
        return {
            "run": f"{net}-seed{seed}{label}", "net": net, "seed": seed, "segmenter": "Net",
            "n_parameters": 1, "n_labelled": 3, "n_unlabelled": 9, "parameters": {"epochs": 4},
            "pretraining": {"epochs": 2}, "pretraining_cpu_seconds": 1.0,
            "cpu_seconds": 2.0, "scores": {"val": {"mean_iou": score}},
        }  # fmt: skip

    scores = {"scratch": (0.3, 0.5), "self_supervised": (0.4, 0.7)}
    runs = [made(net, seed, v) for net, values in scores.items() for seed, v in enumerate(values)]
    _, scratch, pretrained = tables.table(runs)
    assert scratch[2:5] == ["2", "0.400 ± 0.141", "-"]
    # mean .15, deviation .0707, of two: half of the interval is 12.706 * .05
    assert pretrained[2:5] == ["2", "0.550 ± 0.212", "+0.150 [-0.485, +0.785]"]
    # Runs of other lengths are held against those that took as long.
    runs += [made("scratch", 0, 0.6, "-long"), made("self_supervised", 0, 0.65, "-long")]
    runs += [made("self_supervised", 0, 0.9, "-longer")]
    _, *scratch, short, long, longer = tables.table(runs)
    assert [line[3] for line in scratch] == ["0.400 ± 0.141", "0.600"]
    assert [short[4], long[4], longer[4]] == ["+0.150 [-0.485, +0.785]", "+0.050", "-"]
