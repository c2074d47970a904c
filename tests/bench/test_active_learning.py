"""The benchmark of active learning, on small made-up pictures: rows, going on, and the table."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from segalgos.bench.store import Store, read_rows

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "active_learning.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_of_active_learning", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def small(script, monkeypatch):
    """Pictures of two kinds; in the rarer one the classes look the other way round."""

    def picture(i, rng):
        labels = (rng.random((6, 7)) < 0.4).astype(np.int32)
        odd = i % 4 == 3
        bright = labels[..., None] * (-1.0 if odd else 1.0) + 3.0 * odd
        features = (bright + rng.normal(0, 0.1, (6, 7, 2))).astype(np.float32)
        line = features[:1].copy(), labels[:1].copy()
        descriptor = np.array([features.mean(), features.std()], np.float32)
        return script.Picture(f"picture {i}", features, labels, *line, descriptor)

    def read(name, part, root):
        rng = np.random.default_rng(0)
        pictures = [picture(i, rng) for i in range(14)]
        return pictures[:10], pictures[10:]

    class Two:
        classes = ("background", "object")

    monkeypatch.setattr(script, "read", read)
    monkeypatch.setattr(script.datasets, "load", lambda name, root: Two())
    monkeypatch.setattr(script, "ROUNDS", (1, 2, 4))
    monkeypatch.setattr(script, "POOL", 8)
    monkeypatch.setattr(script, "FOREST", {"n_estimators": 3})


def test_rows_are_whole_and_go_on(script, small, tmp_path):
    arguments = (["nuclei"], ["full", "strokes"], script.METHODS, [0, 1], "measure", None)
    with Store(tmp_path) as store:
        new = script.run(store, *arguments)
        first = [next(new) for _ in range(5)]
    with Store(tmp_path) as store:
        rest = list(script.run(store, *arguments))
        assert not list(script.run(store, *arguments))
        rows = store.rows
    found, _ = read_rows(tmp_path / "results.jsonl")
    assert found == json.loads(json.dumps([*first, *rest]))
    n_methods = len(script.METHODS)
    assert len({row["key"] for row in rows}) == 2 * 2 * (n_methods + 1)
    for row in rows:
        if row["method"] != script.ALL:
            assert len(row["chosen"]) == len(set(row["chosen"])) == 4
            assert len(row["scores"]) == len(row["rounds"]) == 3
    lines = script.table(rows)
    assert len(lines) == 1 + 2 * n_methods
    assert len({len(line) for line in lines}) == 1


def test_coverage_finds_both_kinds(script, small, tmp_path):
    """Two images are enough, where a random order may take two that are alike."""
    with Store(tmp_path) as store:
        methods = {"coverage": script.METHODS["coverage"]}
        rows = list(script.run(store, ["nuclei"], ["full"], methods, [0], "measure", None))
    chosen = [int(name.split()[1]) % 4 == 3 for name in rows[1]["chosen"][:2]]
    assert sorted(chosen) == [False, True]
    assert rows[1]["scores"][1] > 0.95 * rows[0]["scores"][0]


def test_the_number_of_images_is_that_from_which_it_stays(script):
    rounds = [1, 2, 4, 8]
    assert script.images_to([0.1, 0.9, 0.9, 0.95], rounds, 0.9) == 2
    assert script.images_to([0.9, 0.8, 0.9, 0.95], rounds, 0.9) == 4
    assert script.images_to([0.9, 0.9, 0.9, 0.9], rounds, 0.9) == 1
    assert np.isnan(script.images_to([0.9, 0.9, 0.9, 0.8], rounds, 0.9))


def test_the_table_compares_with_the_same_seed(script):
    def row(method, seed, scores):
        return {"part": "measure", "set": "camvid", "labels": "full", "method": method,
                "seed": seed, "scores": scores, "rounds": [1, 2, 3]}  # fmt: skip

    rows = [row(script.ALL, seed, [1.0]) for seed in (0, 1)]
    rows += [row("random", 0, [0.2, 0.5, 0.96]), row("random", 1, [0.2, 0.91, 0.92])]
    rows += [row("both", 0, [0.2, 0.96, 0.96]), row("both", 1, [0.92, 0.92, 0.96])]
    _, random, both = script.table(rows)
    # Student's t for two values is 12.7: half of their difference counts so often.
    assert random[3:7] == ["2", "1.000", "2.5 ± 6.4", "3.0 ± 0.0 (1 never)"]
    assert both[3:9] == ["2", "1.000", "1.5 ± 6.4", "2.5 ± 6.4", "+1.0 ± 0.0", "+0.5 ± 6.4"]
    assert both[9] == f"{np.mean([2.12 / 3, 2.8 / 3]):.3f}"


def test_sequences_are_cut_with_a_gap(script):
    pool, held = script.cut_sequence(np.arange(50))
    assert (pool[0], pool[-1], held[0], held[-1]) == (0, 29, 35, 49)


def test_committed_rows_are_of_one_run(script):
    for path in (SCRIPT.parent / "results" / "active_learning").glob("*/results.jsonl"):
        rows, n_bad = read_rows(path)
        assert n_bad == 0
        assert all(row["settings"] == script.settings() for row in rows)
