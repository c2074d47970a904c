"""The command, run in-process: what it writes, prints and returns."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data

import segalgos
from segalgos import cli, plot
from segalgos.files import read_image, read_labels, write_image, write_labels
from segalgos.warmup import warm_up


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """``run("segment", ...)``: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.err, "_width", 300)

    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["segalgos", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return run_


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(data.astronaut()[:200, :180]).save(path)
    return path


@pytest.mark.parametrize("method", ["kmeans", "slic", "felzenszwalb"])
def test_segment_writes_labels_and_an_overlay(run, photo, method):
    code, out, _ = run(
        "segment", photo, "--method", method, "--out", "labels.png", "--overlay", "over.png"
    )
    assert code == 0
    assert "180 x 200" in out
    labels = read_labels("labels.png")
    assert labels.shape == (200, 180)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert read_image("over.png").shape == (200, 180, 3)


def test_segment_takes_parameters_and_prints_json(run, photo):
    code, out, _ = run(
        *("segment", photo, "--method", "kmeans", "--json"),
        *("--set", "n_clusters=3", "--set", "random_state=0"),
    )
    result = json.loads(out)
    assert code == 0
    assert result["ids"] == [0, 1, 2]
    assert (result["height"], result["width"]) == (200, 180)


@pytest.mark.parametrize(
    "array",
    [
        np.uint8(np.arange(900).reshape(30, 30) % 256),
        np.arange(900, dtype=np.uint16).reshape(30, 30),
        np.uint8(np.random.default_rng(0).integers(0, 256, (30, 30, 4))),
        np.zeros((1, 1), np.uint8),
    ],
    ids=["grey", "16 bit", "alpha", "one pixel"],
)
@pytest.mark.parametrize("method", ["kmeans", "slic", "felzenszwalb"])
def test_segment_takes_any_picture(run, tmp_path, array, method):
    Image.fromarray(array).save(tmp_path / "any.png")
    code, _, err = run(
        "segment", "any.png", "--method", method, "--out", "l.tif", "--overlay", "o.png"
    )
    assert code == 0, err
    assert read_labels("l.tif").shape == array.shape[:2]


def test_segment_writes_many_into_a_folder_and_goes_on_after_a_bad_one(run, photo, tmp_path):
    Image.open(photo).save(tmp_path / "other.png")
    (tmp_path / "bad.png").write_text("no picture")
    code, out, err = run("segment", photo, "other.png", "bad.png", "--out", "maps")
    assert code == cli.PARTIAL
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["other.png", "photo.png"]
    assert "bad.png" in err
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["segment", "none.jpg"], 4, "none.jpg does not exist"),
        (["segment", "bad.png"], 4, "could not be decoded"),
        (["segment", "photo.jpg", "--method", "kmean"], 2, "did you mean 'kmeans'"),
        (["segment", "photo.jpg", "--method", "random_forest"], 2, "learns from labels"),
        (["segment", "photo.jpg", "--set", "scale"], 2, "write it like"),
        (["segment", "photo.jpg", "--set", "k=3"], 2, "none is called 'k'"),
        (["segment", "photo.jpg", "--set", "scale=-1"], 2, "scale is -1"),
        (["segment", "photo.jpg", "--out", "labels.jpg"], 2, "expected one of .png"),
        (["segment", "photo.jpg", "photo.jpg", "--out", "x.png"], 2, "is one file"),
        (["segment", "photo.jpg", "photo.jpg", "--out", "x"], 2, "two images are called"),
        (["segment"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["predict", "photo.jpg", "photo.jpg"], 4, "no segalgos model"),
        (["predict", "none.segalgos", "photo.jpg"], 4, "does not exist"),
        (["fit", "--images", ".", "--labels", "none", "--out", "m"], 4, "is no folder"),
        (["bench", "--data", "nowhere"], 2, "neither a data set"),
        (["bench", "--methods", "magic"], 2, "no segmenter is called 'magic'"),
        (["bench", "--budget", "soon"], 2, "write a time like 20s"),
        (["bench", "--challenge", "nois"], 2, "did you mean 'noise'"),
        (["bench", "--memory-limit", "-1GB"], 2, "write a size like"),
        (["report", "nowhere"], 4, "nowhere"),
        (["convert", "photo.jpg", "x.png"], 4, "colour picture"),
        (["data", "verify", "nothing"], 2, "neither a data set"),
        (["data", "download", "mobilesam", "--root", "."], 2, "did you mean 'mobile_sam'"),
        (["data", "download", "sam_vit_b", "--sha256", "0", "--root", "."], 2, "is for addresses"),
        (["data", "download", "http://a.b/c.zip", "--root", "."], 2, "--sha256 is missing"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(
    run, photo, tmp_path, arguments, code, message
):
    (tmp_path / "bad.png").write_text("no picture")
    before = sorted(tmp_path.iterdir())
    got, out, err = run(*arguments)
    assert got == code
    flat = " ".join(err.replace("│", " ").split())
    assert message in flat
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_fit_then_predict(run, tmp_path):
    for name, part in (("a", slice(0, 150)), ("b", slice(150, None))):
        image = data.coins()[part]
        write_image(tmp_path / "images" / f"{name}.png", image)
        mask = np.where(image > 110, 1, 0)
        mask[:10] = 255
        write_labels(tmp_path / "masks" / f"{name}.png", mask)
    settings = ("--set", "n_estimators=10", "--set", "max_samples=2000", "--set", "random_state=0")
    code, out, err = run(
        *("fit", "--method", "random_forest", "--images", "images", "--labels", "masks"),
        *("--ignore", "255", "--out", "model.segalgos", *settings),
    )
    assert code == 0, err
    assert "classes [0, 1]" in out
    code, out, err = run("predict", "model.segalgos", "images", "--out", "maps")
    assert code == 0, err
    labels = read_labels(tmp_path / "maps" / "b.png")
    assert (labels == (data.coins()[150:] > 110)).mean() > 0.9


def test_fit_learns_single_objects(run, tmp_path):
    labels = np.zeros((60, 90), int)
    for i in range(6):
        labels[5 + 28 * (i % 2) :][:22, 4 + 29 * (i // 2) :][:, :24] = i + 1
    write_image(tmp_path / "images" / "a.png", np.uint8(60 + 120 * (labels > 0)))
    write_labels(tmp_path / "masks" / "a.png", labels)
    arguments = ("fit", "--method", "boundary_instances", "--images", "images", "--labels", "masks")
    arguments += ("--out", "model.segalgos", "--set", "random_state=0")
    code, _, err = run(*arguments, "--set", "estimator=nothing")
    assert (code, "--set estimator" in err) == (2, True)
    code, _, err = run(*arguments, "--set", "estimator__n_estimators=10")
    assert (code, "name the method too" in err) == (2, True)
    code, _, err = run(*arguments, "--set", "estimator=random_forest", "--set", "estimator__x=1")
    assert (code, "none is called 'x'" in err) == (2, True)
    arguments += ("--set", "estimator=random_forest", "--set", "estimator__n_estimators=10")
    code, _, err = run(*arguments, "--ignore", "255")
    assert (code, "--ignore" in err) == (2, True)
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "BoundaryInstanceSegmenter" in out
    out_paths = ("--out", "found", "--overlay", "seen")
    code, out, err = run("predict", "model.segalgos", "images", *out_paths)
    assert code == 0, err
    found = read_labels(tmp_path / "found" / "a.png")
    assert len(np.unique(found)) == 7
    assert ((found > 0) == (labels > 0)).mean() > 0.95
    image = read_image(tmp_path / "images" / "a.png")
    objects = segalgos.load("model.segalgos").predict(image)
    assert len(objects) == 6
    seen = read_image(tmp_path / "seen" / "a.png")
    assert np.array_equal(seen, plot.draw_instances(image, objects))  # each with its score


def test_fit_names_what_does_not_fit(run, tmp_path):
    write_image(tmp_path / "images" / "a.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "masks").mkdir()
    arguments = ("fit", "--images", "images", "--labels", "masks", "--out", "m.segalgos")
    code, _, err = run(*arguments)
    assert (code, "a.png has no label map" in err) == (4, True)
    write_labels(tmp_path / "masks" / "a.png", np.zeros((8, 9), int))
    code, _, err = run(*arguments)
    assert (code, "must have the image's height and width" in err) == (4, True)
    assert not (tmp_path / "m.segalgos").exists()


def test_convert_there_and_back(run, tmp_path):
    labels = np.zeros((12, 15), np.int32)
    labels[2:5, 2:6], labels[7:9, 3:14] = 1, 2
    write_labels(tmp_path / "a.png", labels)
    code, out, _ = run("convert", "a.png", "a.json")
    assert (code, "nothing is lost" in out) == (0, True)
    code, out, _ = run("convert", "a.json", "b.tif")
    assert (code, "nothing is lost" in out) == (0, True)
    np.testing.assert_array_equal(read_labels(tmp_path / "b.tif"), labels)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert run("convert", "deep.json", "c.tif")[0] == 4


def test_convert_reports_losses(run, tmp_path):
    square = [1.5, 1, 6, 1, 6, 5, 1.5, 5]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [square], "score": 0.5},
        {"id": 2, "image_id": 1, "category_id": 3, "segmentation": [[4, 2, 9, 2, 9, 4, 4, 4]]},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 12}],
        "categories": [{"id": 3, "name": "leaf"}],
        "annotations": annotations,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    code, out, err = run("convert", "a.json", "a.png", "--strict", "--json")
    report = json.loads(out)
    assert (code, report["written"], report["lossless"]) == (3, False, False)
    assert "not written" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]
    assert report["losses"]["scores"] == 1
    assert list(report["per_image"][0]["iou"]) == ["0"]  # the small score is below
    code, out, _ = run("convert", "a.json", "a.png")
    assert code == 0
    assert "lost: parts of masks under other objects: 1, in 1 images" in out
    assert read_labels("a.png").max() == 2
    code, out, _ = run("convert", "a.json", "new", "--to", "labelme")
    assert (code, "lost: scores: 1" in out) == (0, True)
    assert run("convert", "a.json", "new", "--to", "labelme")[0] == 4  # it holds something
    code, _, err = run("convert", "a.json", "other", "--to", "png")
    assert (code, "expected one of coco, voc" in err) == (2, True)
    assert run("convert", "a.json", "other")[0] == 4


def test_lists_and_doctor(run, monkeypatch):
    monkeypatch.delenv("SEGALGOS_DATA", raising=False)
    code, out, _ = run("methods", "--json")
    assert code == 0
    assert {e["key"] for e in json.loads(out)} == {e.key for e in segalgos.catalog.ENTRIES}
    code, out, _ = run("data", "list", "--json")
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert found["shapes"]["place"] == "built in"
    assert found["camvid"]["place"] is None
    assert all(found["bsds500"][k] for k in ("task", "splits", "size", "licence", "source"))
    code, out, _ = run("data", "list")
    assert code == 0
    assert "camvid" in out
    code, out, _ = run("data", "weights", "--json")
    assert code == 0
    assert {w["name"]: w["file"] for w in json.loads(out)}["sam_vit_b"] == "sam_vit_b_01ec64.pth"
    code, out, _ = run("data", "weights")
    assert code == 0
    assert "mobile_sam" in out
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert json.loads(out)["versions"]["segalgos"] == segalgos.__version__
    assert run("doctor")[0] == 0
    assert run("methods")[0] == 0
    assert run("--version")[1].strip() == segalgos.__version__


def test_data_verify_counts_and_finds_damage(run, tmp_path):
    for i in range(4):
        write_image(tmp_path / "own" / "images" / f"{i}.png", np.zeros((8, 8), np.uint8))
        write_labels(tmp_path / "own" / "masks" / f"{i}.png", np.eye(8, dtype=int))
    code, out, err = run("data", "verify", tmp_path / "own", "--json")
    assert code == 0, err
    assert sum(json.loads(out)["images"].values()) == 4
    (tmp_path / "own" / "images" / "2.png").write_bytes(b"\x89PNG damaged")
    code, out, err = run("data", "verify", tmp_path / "own")
    assert code == 4
    assert "2.png" in out + err


def test_warmup_compiles(run):
    code, out, _ = run("warmup")
    assert code == 0
    assert "compiled in" in out


def test_a_method_that_cannot_be_compiled_keeps_no_other_from_it():
    done = []
    failures = warm_up(["kmeans", "no_such_method", "slic"], done.append)
    assert sorted(done) == ["kmeans", "metrics", "no_such_method", "slic"]
    assert set(failures) == {"no_such_method"}
    assert "no_such_method" in failures["no_such_method"]


def test_data_check(run, tmp_path):
    own = own_masks(tmp_path / "own")
    code, out, _ = run("data", "check", own)
    assert code == 0
    assert "nothing was found" in out
    assert "layout folder" in out
    nasty = "[red]<b>\x1b[31m.png"
    (own / "images" / nasty).write_bytes((own / "images" / "a.png").read_bytes())
    code, out, _ = run("data", "check", own, "--json")
    report = json.loads(out)
    assert (code, report["healthy"]) == (3, False)
    assert report["counts"]["image without labels"] == 1
    code, out, _ = run("data", "check", own)
    assert code == 3
    assert "not healthy" in out
    assert "\x1b[31m" not in out
    assert "[red]<b>" in out
    assert run("data", "check", own, "--task", "boxes")[0] == 2
    assert run("data", "check", tmp_path / "nothing")[0] == 4


def own_masks(folder):
    rng = np.random.default_rng(0)
    for name in "abcd":
        for place in ("images", "masks"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        mask = np.arange(600).reshape(20, 30) // 300
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    return folder


def test_data_split(run, tmp_path):
    own = own_masks(tmp_path / "own")
    out = tmp_path / "new"
    code, text, _ = run(
        "data", "split", own, "--out", out, "--fractions", "train=0.5,val=0.5", "--json"
    )
    plan = json.loads(text)
    assert (code, plan["groups"]) == (0, 4)
    for part, names in plan["names"].items():
        assert sorted(p.stem for p in (out / part / "masks").iterdir()) == sorted(names)
    assert run("data", "check", out)[0] == 0
    assert run("data", "split", own, "--out", out)[0] == 4  # it holds something
    code, text, _ = run("data", "split", own, "--out", tmp_path / "lists", "--lists")
    assert code == 0
    assert "4 groups" in text
    assert (tmp_path / "lists" / "train.txt").is_file()
    assert run("data", "split", own, "--out", out, "--fractions", "half")[0] == 2
