"""The documentation's code runs, and its lists name all that there is."""

import importlib.util
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from segalgos import RandomForestSegmenter, catalog, datasets, write_image, write_labels
from segalgos.bench.cityscapes import score_folder

DOCS = Path(__file__).parents[1] / "docs"


def python_blocks(page: str) -> list[tuple[int, str]]:
    """Line number and text of each block of Python of a Markdown page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in found]


def run_blocks(page: str) -> ModuleType:
    """Run a page's blocks one after the other in one module, as a reader would."""
    module = ModuleType(f"docs_{Path(page).stem}")
    sys.modules[module.__name__] = module  # so that classes made there can be pickled
    try:
        for line, code in python_blocks(page):
            if "UNetSegmenter" in code and importlib.util.find_spec("torch") is None:
                continue
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * line + code, DOCS / page, "exec"), vars(module))
    finally:
        del sys.modules[module.__name__]
    return module


def test_guide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_blocks("guide.md")
    assert len(python_blocks("guide.md")) > 15
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "photo.png",
        "overlay.png",
        "compare.png",
        "labels.png",
        "shapes.segalgos",
    }


NET_PAGES = ["fcn", "unet", "deeplab", "segformer", "ddrnet", "mask_rcnn", "yolact", "sam"]


@pytest.mark.parametrize("page", [*NET_PAGES, "losses", "training"])
def test_pages_of_nets(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    run_blocks(f"nets/{page}.md")
    assert python_blocks(f"nets/{page}.md")


def test_domain_shift():
    pytest.importorskip("torch")
    module = run_blocks("domain_shift.md")
    assert module.maps[0].shape == (48, 64)
    assert module.quick.classes_.tolist() == [0, 1]


def test_contours():
    module = run_blocks("contours.md")
    assert module.coarse.max() == 4
    assert len(np.unique(module.mine)) == 20
    assert len(np.unique(module.few)) == 8


def test_pretraining(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    module = run_blocks("pretraining.md")
    assert 0 < module.linear["mean_iou_dataset"] <= 1
    assert module.labels.shape == module.scenes[1].image.shape[:2]


def test_active_learning():
    module = run_blocks("active_learning.md")
    assert len(set(module.labelled)) == 4
    assert module.unsure.shape == (48, 64)


def test_contour_gradients():
    module = run_blocks("contour_gradients.md")
    assert module.strengths.shape == (8, 120, 160)
    assert 0 < (module.thin > 0.5).mean() < 0.2


def test_formats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = run_blocks("formats.md")
    assert module.report.lossless
    assert module.report.notes == {"holes cut open": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.json", "cells.png"]


def test_own_segmenter_keeps_its_promises():
    module = run_blocks("own_segmenter.md")
    assert module.labels.max() == 3
    # The page shows how to make tests of the checks; they are there.
    (mark,) = module.test_my_segmenters.pytestmark
    assert mark.name == "parametrize"
    assert len(mark.args[1]) > 40


def test_cityscapes(tmp_path, monkeypatch):
    image = np.zeros((8, 9, 3), np.uint8)
    image[4:] = 255
    road_and_car = np.where(image[..., 0], 26, 7)
    root = tmp_path / "cityscapes"
    for name in ("ulm_000000_000019", "ulm_000001_000019"):
        write_image(root / f"leftImg8bit/val/ulm/{name}_leftImg8bit.png", image)
        start = root / f"gtFine/val/ulm/{name}_gtFine"
        write_labels(f"{start}_labelIds.png", road_and_car)
        write_labels(f"{start}_instanceIds.png", np.where(road_and_car == 26, 26001, 7))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGALGOS_DATA", str(tmp_path))
    val = datasets.load("cityscapes", split="val")
    RandomForestSegmenter.small().fit(val.images, val.labels).save("streets.segalgos")
    module = run_blocks("cityscapes.md")
    assert len(list((tmp_path / "my_predictions").iterdir())) == 2
    n_images, scores = score_folder(tmp_path / "my_predictions")
    assert n_images == len(module.few) == 2
    assert scores["mean_iou_classes"] == module.scores["mean_iou_classes"] > 0
    assert scores["mean_iiou_classes"] == module.scores["mean_iiou_classes"] > 0


def test_blocks_can_fail(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("text\n\n```python\nx = 1\nassert x == 2\n```\n")
    monkeypatch.setattr(sys.modules[__name__], "DOCS", tmp_path)
    with pytest.raises(AssertionError) as caught:
        run_blocks("page.md")
    assert caught.traceback[-1].lineno + 1 == 5


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: entry.key)
def test_choosing_names_every_method(entry):
    assert f"`{entry.name}(" in (DOCS / "choosing.md").read_text(encoding="utf-8")


def test_command_line_names_every_command():
    typer_main = importlib.import_module("typer.main")
    cli = importlib.import_module("segalgos.cli")
    commands = dict(typer_main.get_command(cli.app).commands)
    groups = {name: commands.pop(name).commands for name in ("data", "eval")}
    inner = [f"{group} {name}" for group, names in groups.items() for name in names]
    expected = [*commands, *inner]
    text = (DOCS / "command_line.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\.\. command-options:: (.+)", text)) == sorted(expected)


def test_glossary_defines_each_word_once():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    words = list(itertools.chain(*(re.findall(r"^(\S.*)$", b, re.MULTILINE) for b in blocks)))
    assert len(words) == len(set(words)) > 30
