"""The benchmark of clicks, on two small objects: rows, going on, and the table."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segalgos.bench.store import Store, read_rows

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "interactive.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_of_clicks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path):
    """Two bright squares on dark noise."""
    rng = np.random.default_rng(0)
    for k, name in enumerate("ab"):
        mask = np.zeros((24, 30), np.uint8)
        mask[5 : 15 + k, 6:20] = 255
        image = rng.integers(0, 60, (24, 30, 3)) + (mask[..., None] > 0) * 120
        for path, values in (("data_GT/{}.jpg", image), ("boundary_GT/{}.bmp", mask)):
            target = tmp_path / "GrabCut" / path.format(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(target)
    return tmp_path


def test_rows_are_whole_and_go_on(script, data, tmp_path):
    contenders = dict(script.CONTENDERS)
    with Store(tmp_path / "out") as store:
        new = script.run(store, ["grabcut"], contenders, data)
        first = [next(new) for _ in range(3)]
    with Store(tmp_path / "out") as store:
        rest = list(script.run(store, ["grabcut"], contenders, data))
        assert not list(script.run(store, ["grabcut"], contenders, data))
    rows, _ = read_rows(tmp_path / "out" / "results.jsonl")
    assert rows == json.loads(json.dumps([*first, *rest]))
    assert len({row["key"] for row in rows}) == 4 * 2 + 1
    for row in rows:
        if row["contender"] == "SAM":
            assert row["status"] == "no checkpoint"
            assert "ious" not in row
        else:
            assert len(row["ious"]) == len(row["clicks"])
            assert row["ious"][-1] >= 0.9
            assert (row["box_iou"] is None) == (row["contender"] != "GrabCut")


def test_the_table_invents_nothing(script):
    rows = [
        {"set": "grabcut", "contender": "GrabCut", "status": "ok", "ious": ious, "box_iou": box}
        for ious, box in (([0.5, 0.9], 0.8), ([0.2] * 20, 0.6))
    ]
    rows.append({"set": "grabcut", "contender": "SAM", "status": "no checkpoint"})
    titles, ours, sam = script.table(rows)
    assert len(titles) == len(ours) == len(sam)
    assert ours == ["grabcut", "clicks", "GrabCut", "2", "0.350", "0.550", "0.550",
                    "11.00 (1 never)", "11.00 (1 never)", "0.700"]  # fmt: skip
    assert sam[3:] == ["0"] + ["no checkpoint"] * 6


def test_the_frame_is_background_where_nobody_clicked(script):
    clicks = [script.Click(3, 1, True, 2.0), script.Click(0, 7, False, 1.0)]
    marks = script.marks(clicks, (8, 9))
    assert marks[3, 0] == 1  # of the dab
    assert (marks[[0, -1]] == 0).all()
    assert (marks[1:-1, 3:-1] == -1).all()


def test_committed_rows_are_of_one_run(script):
    """Their settings are those of the script, or the table would mix runs."""
    for path in (SCRIPT.parent / "results" / "interactive").glob("*/results.jsonl"):
        rows, n_bad = read_rows(path)
        assert n_bad == 0
        for row in rows:
            if row["status"] == "ok":
                assert row["settings"] == script._settings(
                    row["contender"], row.get("marks", "clicks")
                )


def test_sam_gets_clicks_as_they_are(script, data, monkeypatch):
    """With weights that mean nothing: it is called as it wants to be, and gives one mask."""
    pytest.importorskip("torch", reason="SAM is a network of torch")
    made = script.segalgos.SAMSegmenter(untrained=True)
    seen = []

    def segmenter(checkpoint):
        seen.append(checkpoint)
        return made

    monkeypatch.setattr(script.segalgos, "SAMSegmenter", segmenter)
    dataset = script.datasets.load("grabcut", split="test", root=data)
    row = script.score(script.with_sam("weights.pth"), dataset[0])
    assert seen == ["weights.pth"]
    assert len(row["ious"]) == len(row["clicks"]) >= 1
    assert all(0 <= iou <= 1 for iou in [*row["ious"], row["box_iou"]])


def test_strokes_are_rows_of_their_own(script, data, tmp_path):
    contenders = {name: script.CONTENDERS[name] for name in ("graph cut", "forest", "SAM")}
    with Store(tmp_path / "out") as store:
        rows = list(script.run(store, ["grabcut"], contenders, data, None, script.MARKS))
        assert not list(script.run(store, ["grabcut"], contenders, data, None, script.MARKS))
    assert len({row["key"] for row in rows}) == 2 * (2 * 2 + 1)
    strokes = [row for row in rows if row.get("marks") == "strokes"]
    assert [row["status"] for row in strokes].count("takes no strokes") == 1
    for row in strokes:
        if row["status"] == "ok":
            assert len(row["ious"]) == len(row["strokes"])
            assert row["ious"][-1] >= 0.9
    lines = script.table(rows)
    assert [line[:3] for line in lines[1:]] == [
        ["grabcut", kind, name] for kind in script.MARKS for name in contenders
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_nucleus_is_looked_at_through_a_window(script):
    masks = np.zeros((4, 60, 70), bool)
    masks[0, 0:30, 10:40] = True  # touches the border
    masks[1, 20:26, 50:58] = True
    masks[2, 40:48, 30:42] = True
    masks[3, 41:44, 20:23] = True
    image = np.arange(60 * 70, dtype=np.uint16).reshape(60, 70)
    sample = script.datasets.Sample(image, instances=script.Instances(masks), name="a")
    single = script.nucleus_of(sample)
    np.testing.assert_array_equal(single.image, image[12:34, 42:66])
    np.testing.assert_array_equal(single.labels, masks[1, 12:34, 42:66])
    alone = script.datasets.Sample(image, instances=script.Instances(masks[:1]), name="b")
    assert script.nucleus_of(alone) is None


def test_only_pieces_with_a_mark_count(script):
    found = np.zeros((9, 12), bool)
    found[1:4, 1:4] = found[5:8, 6:9] = True
    kept = script.pieces_with_marks(found, [script.Click(2, 2, True, 1.0)])
    assert kept.sum() == 9
    assert kept[2, 2]
    assert not script.pieces_with_marks(found, [script.Click(2, 2, False, 1.0)]).any()
