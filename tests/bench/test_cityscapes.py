"""Predictions for a made-up Cityscapes, scored and ranked by the command."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from segalgos import cli
from segalgos.bench.cityscapes import Result, own_result, published, rank, score_folder
from segalgos.cityscapes_labels import CATEGORIES, CLASSES, to_train_ids
from segalgos.metrics import cityscapes_scores

SCENES = ("ulm_000000_000019", "ulm_000001_000019", "bonn_000000_000019")


def save(path, values, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


@pytest.fixture
def scenes(tmp_path):
    """True label ids, instances and predictions of each scene; the files are in ``tmp_path``."""
    rng = np.random.default_rng(0)
    maps = {}
    for name in SCENES:
        truth = rng.integers(0, 34, (12, 16))
        instances = np.where(truth >= 24, truth * 1000 + rng.integers(0, 4, truth.shape), truth)
        found = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 34, truth.shape), truth)
        start = tmp_path / "cityscapes/gtFine/val" / name.split("_")[0] / f"{name}_gtFine"
        save(start.with_name(f"{start.name}_labelIds.png"), truth)
        save(start.with_name(f"{start.name}_instanceIds.png"), instances, np.uint16)
        save(tmp_path / "mine/somewhere" / f"{name}_leftImg8bit.png", found)
        maps[name] = found, truth, instances
    save(tmp_path / "mine/legend.png", [[0]])
    save(tmp_path / "mine/rome_000000_000019.png", [[0]])  # of another split
    return maps


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """``run(...)``: exit code, standard output and standard error of ``segalgos cityscapes``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGALGOS_DATA", str(tmp_path))
    monkeypatch.setattr(cli.err, "_width", 300)

    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["segalgos", "cityscapes", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return run_


def test_scores_are_those_of_the_metric(scenes, tmp_path):
    expected = cityscapes_scores(*zip(*scenes.values()), ids="label")
    seen = []
    n_images, scores = score_folder(
        tmp_path / "mine", root=tmp_path, on_start=seen.append, on_image=lambda: seen.append("one")
    )
    assert n_images == 3
    assert seen == [3, "one", "one", "one"]
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-13)


def test_predictions_of_train_ids(scenes, tmp_path):
    for name, (found, _, _) in scenes.items():
        train_ids = to_train_ids(found)
        save(tmp_path / "train" / f"{name}.png", np.where(train_ids < 0, 255, train_ids))
    plain = [(np.where(to_train_ids(f) < 0, 0, f), t, i) for f, t, i in scenes.values()]
    expected = cityscapes_scores(*zip(*plain), ids="label")
    _, scores = score_folder(tmp_path / "train", root=tmp_path, ids="train")
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-13)
    with pytest.raises(ValueError, match=r"bonn_000000_000019.*holds the id 255"):
        score_folder(tmp_path / "train", root=tmp_path)
    for name in scenes:
        save(tmp_path / "train" / f"{name}.png", np.full((12, 16), 18))
    with pytest.raises(ValueError, match=r"no prediction .* holds an id above 18.*ids='train'"):
        score_folder(tmp_path / "train", root=tmp_path)


def test_command_prints_a_table(scenes, run):
    code, out, err = run("mine", "--name", "my [net]")
    assert code == 0, err
    expected = cityscapes_scores(*zip(*scenes.values()), ids="label")
    figure = f"{100 * expected['mean_iou_classes']:.1f}"
    assert out.splitlines()[-1] == f"my [net]: mean IoU {figure}, 3 images of val"
    for word in (*CLASSES, *CATEGORIES, "DeepLabv3+", "82.1", "your predictions"):
        assert word in out
    (line,) = (line for line in out.splitlines() if "my [net]" in line and "│" in line)
    assert figure in line


def test_command_prints_json(scenes, run, tmp_path):
    code, out, _ = run("mine", "--json", "--root", tmp_path / "cityscapes")
    assert code == 0
    content = json.loads(out)
    expected = cityscapes_scores(*zip(*scenes.values()), ids="label")
    assert content["images"] == 3
    assert content["mean_iou_classes"] == pytest.approx(expected["mean_iou_classes"])
    assert list(content["iou_per_class"]) == list(CLASSES)
    assert content["iiou_per_class"]["road"] is None
    assert content["iiou_per_category"]["human"] == pytest.approx(expected["iiou_per_category"][5])
    (own,) = [row for row in content["results"] if row["source"] == "your predictions"]
    assert own["method"] == "mine"
    assert own["category_iiou"] == pytest.approx(100 * expected["mean_iiou_categories"])
    assert len(content["results"]) == len(published()) + 1
    figures = [row["mean_iou"] for row in content["results"]]
    assert figures == sorted(figures, reverse=True)


def test_what_is_wrong_is_said(scenes, run, tmp_path):
    assert "no folder" in run("none")[2]
    assert run("none")[0] == cli.BAD_INPUT
    assert "labels of test are secret" in run("mine", "--split", "test")[2]
    assert "split is 'all'" in run("mine", "--split", "all")[2]
    assert "ids is 'colour'" in run("mine", "--ids", "colour")[2]
    assert "holds no 'train' part" in run("mine", "--split", "train")[2]
    save(tmp_path / "mine/ulm_000001_000019_again.png", [[0]])
    assert "both predictions of ulm_000001_000019" in run("mine")[2]
    for path in (tmp_path / "mine").rglob("ulm_000001*"):
        path.unlink()
    assert "1 of the 3 images of val have no prediction" in run("mine")[2]
    save(tmp_path / "mine/ulm_000001_000019.png", [[0]])
    code, _, err = run("mine")
    assert code == cli.BAD_INPUT
    assert "ulm_000001_000019.png and " in err
    assert "prediction has shape (1, 1), labels has (12, 16)" in err


def test_published_results_are_whole():
    results = published()
    figures = [result.mean_iou for result in results]
    assert figures == sorted(figures, reverse=True)
    assert len(results) > 30
    keys = [(r.method, r.split, r.remark) for r in results]
    assert len(set(keys)) == len(keys)
    for result in results:
        assert result.split in ("test", "val")
        assert 50 < result.mean_iou < 90
        assert result.paper.startswith("arXiv:")
        assert result.source
        # iIoU is lower than IoU, categories are easier than classes.
        if result.mean_iiou is not None:
            assert result.mean_iiou < result.mean_iou < result.category_iou


def test_undefined_result_comes_last():
    scores = cityscapes_scores(np.zeros((2, 2), int), np.full((2, 2), -1))
    own = own_result("mine", "val", scores)
    assert own.mean_iou is None
    assert rank([own, Result("other", "val", 50.0)])[-1] is own
