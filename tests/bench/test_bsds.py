"""`segalgos eval bsds`: files of every form, the official files, and what is wrong with them."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from segalgos import cli, datasets
from segalgos.bench.bsds import score_folder, write_files
from segalgos.metrics import boundary_scores, evaluate_hierarchies, partition_boundaries

SHAPE = (40, 50)
NAMES = ("100007", "8049", "99")  # in this order: by name


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """``run("--pred", ...)``: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.err, "_width", 300)

    def run_(*arguments):
        arguments = ("eval", "bsds", "--root", tmp_path, *arguments)
        monkeypatch.setattr(sys, "argv", ["segalgos", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return run_


def cells(values):
    array = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        array[0, i] = value
    return array


@pytest.fixture
def scenes(tmp_path):
    """A small BSDS500; of each image its annotations and levels of regions, fine to coarse."""
    rng = np.random.default_rng(0)
    found = {}
    for folder in ("images", "groundTruth"):
        (tmp_path / "BSDS500/data" / folder / "val").mkdir(parents=True)
    for name in NAMES:
        noise = ndimage.gaussian_filter(rng.random(SHAPE), 4)
        fine = np.digitize(noise, np.quantile(noise, [0.25, 0.5, 0.75]))
        annotations = [fine // 2, np.minimum(fine, 1)]
        Image.fromarray(np.uint8(fine * 60)).save(tmp_path / f"BSDS500/data/images/val/{name}.jpg")
        savemat(
            tmp_path / f"BSDS500/data/groundTruth/val/{name}.mat",
            {"groundTruth": cells([{"Segmentation": np.uint16(a + 1)} for a in annotations])},
        )
        found[name] = annotations, [fine, fine // 2, fine * 0]
    return found


def ucm_of(levels):
    """A double-sized map of which each level is one of the partitions."""
    height, width = levels[0].shape
    ucm = np.zeros((2 * height + 1, 2 * width + 1))
    for strength, labels in zip((0.4, 0.8), levels):
        ucm[1::2, 2:-1:2][labels[:, 1:] != labels[:, :-1]] = strength
        ucm[2:-1:2, 1::2][labels[1:] != labels[:-1]] = strength
    beside = np.pad(ucm, 1)
    sides = [beside[1:-1, :-2], beside[1:-1, 2:], beside[:-2, 1:-1], beside[2:, 1:-1]]
    ucm[::2, ::2] = np.maximum.reduce(sides)[::2, ::2]
    return ucm


def contours_of(levels):
    return np.maximum(*(s * partition_boundaries(x) for s, x in zip((0.4, 0.8), levels)))


def write(folder, scenes, form):
    folder.mkdir(exist_ok=True)
    for name, (_, levels) in scenes.items():
        if form == "ucm2":
            savemat(folder / f"{name}.mat", {"ucm2": ucm_of(levels)})
        elif form == "segs":
            savemat(folder / f"{name}.mat", {"segs": cells([np.uint16(x + 1) for x in levels])})
        elif form == "png":
            Image.fromarray(np.uint8(np.round(contours_of(levels) * 255))).save(
                folder / f"{name}.png"
            )
        elif form == "tif":
            Image.fromarray(np.int32(levels[0])).save(folder / f"{name}.tif")
        else:
            arrays = {
                "contours.npy": contours_of(levels),
                "ucm.npy": ucm_of(levels).astype(np.float32),
                "levels.npy": np.stack(levels),
                "labels.npy": levels[0],
            }
            np.save(folder / f"{name}.npy", arrays[form])
    return folder


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        ("ucm2", "double-sized ultrametric contour maps, 9 levels"),
        ("ucm.npy", "double-sized ultrametric contour maps, 9 levels"),
        ("segs", "partitions level by level, 3 levels"),
        ("levels.npy", "partitions level by level, 3 levels"),
        ("png", "contour maps, 9 levels"),
        ("contours.npy", "contour maps, 9 levels"),
        ("labels.npy", "label maps, 1 level"),
        ("tif", "label maps, 1 level"),
    ],
)
def test_every_form(run, scenes, tmp_path, form, taken):
    folder = write(tmp_path / "found", scenes, form)
    arguments = ("--pred", folder, "--thresholds", 9, "--workers", 2)
    code, out, err = run(*arguments)
    assert code == 0, err
    assert f"3 images of val, {taken}\n" in out
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["split"], found["images"], tuple(found["names"])) == ("val", 3, NAMES)
    truths = [scenes[name][0] for name in NAMES]
    levels = [scenes[name][1] for name in NAMES]
    if form in ("png", "contours.npy"):
        contours = [contours_of(x) for x in levels]
        expected = boundary_scores(contours, truths, thresholds=9)
        assert found["regions"] is None
    else:
        double = form in ("ucm2", "ucm.npy")
        maps = [ucm_of(x) if double else x for x in levels]
        if form in ("labels.npy", "tif"):
            maps = [x[:1] for x in levels]
        expected = evaluate_hierarchies(maps, truths, thresholds=9, double_sized=double)
        for name in ("covering_ods", "covering_best", "pri_ois", "voi_ods"):
            assert found["regions"][name] == pytest.approx(expected[name], abs=1e-12)
    for name in ("ods", "ois", "ap", "ods_threshold"):
        assert found["boundaries"][name] == pytest.approx(expected[name], abs=1e-12)
    np.testing.assert_allclose(found["boundaries"]["f_measure"], expected["f_measure"])
    assert 0.5 < found["boundaries"]["ods"] <= 1


def test_table(run, scenes, tmp_path):
    folder = write(tmp_path / "found", scenes, "segs")
    code, out, err = run("--pred", folder)
    assert code == 0, err
    evaluation = score_folder(folder, root=tmp_path)
    shown = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert f"{evaluation.boundaries['ods']:.4f}" in shown["boundaries, F"]
    assert f"{evaluation.regions['covering_best']:.4f}" in shown["covering"]
    assert f"{evaluation.regions['voi_ods']:.4f}" in shown["variation of information"]


@pytest.mark.parametrize("form", ["ucm2", "png"])
def test_official_files(run, scenes, tmp_path, form):
    folder = write(tmp_path / "found", scenes, form)
    out = tmp_path / "scores" / "new"
    code, shown, err = run("--pred", folder, "--thresholds", 5, "--out", out)
    assert code == 0, err
    names = ["eval_bdry", "eval_bdry_img", "eval_bdry_thr"]
    if form == "ucm2":
        names += ["eval_RI_VOI", "eval_RI_VOI_thr", "eval_cover", "eval_cover_img", "eval_cover_th"]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.txt" for name in names)
    assert all(str(path) in shown for path in out.iterdir())
    scores = score_folder(folder, root=tmp_path, thresholds=5)
    lines = (out / "eval_bdry_thr.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"{k / 6:g}" for k in range(1, 6)]
    assert lines[0].startswith("  0.166667 ")
    summary = np.loadtxt(out / "eval_bdry.txt")
    assert summary.shape == (8,)
    assert summary[3] == pytest.approx(scores.boundaries["ods"], rel=1e-5)
    assert summary[7] == pytest.approx(scores.boundaries["ap"], rel=1e-5)
    images = np.loadtxt(out / "eval_bdry_img.txt")
    assert images[:, 0].tolist() == [1, 2, 3]
    assert images.shape == (3, 5)
    if form == "ucm2":
        assert np.loadtxt(out / "eval_cover.txt")[3] == pytest.approx(
            scores.regions["covering_best"], rel=1e-5
        )
        assert np.loadtxt(out / "eval_RI_VOI.txt").shape == (6,)
        assert np.loadtxt(out / "eval_cover_img.txt").shape == (3, 4)


def test_the_official_selftest(bsds_selftest_root, tmp_path):
    # Their layout is that of BSDS500 but for the folder of the split.
    for name in ("images", "groundTruth"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test").symlink_to(bsds_selftest_root / name)
    for test, form in (("test_1", "ucm2"), ("test_2", "png"), ("test_4", "segs")):
        scores = score_folder(bsds_selftest_root / form, root=tmp_path, split="test", thresholds=5)
        for path in write_files(scores, tmp_path / test):
            atol = 0.005 if path.stem == "eval_bdry_img" else 0.001
            expected = np.loadtxt(bsds_selftest_root / test / path.name)
            np.testing.assert_allclose(np.loadtxt(path), expected, atol=atol)


def test_names_of_images(scenes, tmp_path):
    assert datasets.bsds500.image_names(split="val", root=tmp_path) == list(NAMES)
    with pytest.raises(FileNotFoundError, match="'test' part"):
        datasets.bsds500.image_names(split="test", root=tmp_path)


def damage_missing(folder):
    (folder / "8049.png").unlink()


def damage_twice(folder):
    np.save(folder / "99.npy", np.zeros(SHAPE))


def damage_png(folder):
    (folder / "99.png").write_bytes((folder / "99.png").read_bytes()[:60])


def damage_size(folder):
    Image.new("L", (50, 41)).save(folder / "99.png")


def damage_colour(folder):
    Image.new("RGB", (50, 40), "red").save(folder / "99.png")


def replace(content):
    def damage(folder):
        (folder / "99.png").unlink()
        savemat(folder / "99.mat", content)

    return damage


def damage_mat(folder):
    (folder / "99.png").unlink()
    (folder / "99.mat").write_bytes(b"MATLAB 7.3, or so it says")


def damage_npy(folder):
    (folder / "99.png").unlink()
    (folder / "99.npy").write_bytes(b"\x93NUMPY")


def damage_npz(folder):
    (folder / "99.png").unlink()
    with (folder / "99.npy").open("wb") as file:
        np.savez(file, contours=np.zeros(SHAPE))


def damage_npy_header(shape):
    def damage(folder):
        (folder / "99.png").unlink()
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        (folder / "99.npy").write_bytes(start + header.encode() + bytes(80))

    return damage


def replace_array(array):
    def damage(folder):
        (folder / "99.png").unlink()
        np.save(folder / "99.npy", array)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "1 of the 3 images of val have no prediction in .*8049.png"),
        (damage_twice, "are both predictions of 99"),
        (damage_png, "99.png could not be decoded"),
        (damage_size, r"99.png: .*shape \(41, 50\), expected \(40, 50\)"),
        (damage_colour, "99.png has shape .*expected a grey picture"),
        (damage_mat, "99.mat could not be read as a .mat file"),
        (damage_npy, "99.npy is not a plain array file"),
        (damage_npz, "99.npy is not a plain array file"),
        (damage_npy_header((10**9, 10**9)), "99.npy is not a plain array file"),
        (damage_npy_header((10**30, 2)), "99.npy is not a plain array file"),
        (replace_array(np.array([[None]])), "99.npy is not a plain array file"),
        (replace({"pb": np.zeros(SHAPE)}), "99.mat holds pb, expected a variable ucm2 or segs"),
        (replace({"segs": np.ones(SHAPE)}), "99.mat: segs is float64 .*expected a cell array"),
        (replace({"segs": cells([np.full(SHAPE, 0.5)])}), r"99.mat: segs\{1\} is float64"),
        (replace({"segs": cells([np.full(SHAPE, np.inf)])}), r"99.mat: segs\{1\} is float64"),
        (replace({"segs": cells([np.full(SHAPE, 1e300)])}), r"99.mat: segs\{1\} is float64"),
        (replace({"segs": cells([np.ones(SHAPE)])}), "99.mat holds partitions .*in one form"),
        (replace_array(np.full(SHAPE, 200.0)), "99.npy: .*holds 200, expected values from 0 to 1"),
        (replace_array(np.zeros((2, *SHAPE))), r"99.npy holds float64 of shape \(2, 40, 50\)"),
        (replace_array(np.zeros(SHAPE, int)), "99.npy holds label maps: write all files in one"),
    ],
)
def test_what_is_wrong(run, scenes, tmp_path, damage, message):
    folder = write(tmp_path / "found", scenes, "png")
    damage(folder)
    code, out, err = run("--pred", folder, "--out", "scores")
    assert code == 4
    assert out == ""
    assert re.search(message, err), err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("ucm", "message"),
    [
        (np.zeros(SHAPE), r"the map has shape \(40, 50\), expected \(81, 101\)"),
        (np.full((81, 101), 7), "the map is int64, expected float from 0 to 1"),
        (np.full((81, 101), np.uint8(7)), "the map holds 7, expected values from 0 to 1"),
    ],
)
def test_wrong_ucm2(run, scenes, tmp_path, ucm, message):
    folder = write(tmp_path / "found", scenes, "ucm2")
    savemat(folder / "99.mat", {"ucm2": ucm})
    code, _, err = run("--pred", folder)
    assert code == 4
    assert re.search(rf"99\.mat: bsds: {message}", err), err


def test_different_numbers_of_levels(run, scenes, tmp_path):
    folder = write(tmp_path / "found", scenes, "segs")
    savemat(folder / "8049.mat", {"segs": cells([np.ones(SHAPE)])})
    code, _, err = run("--pred", folder)
    assert code == 4
    assert "100007.mat holds 3 levels" in err
    assert "8049.mat holds 1:" in err


def test_wrong_usage(run, scenes, tmp_path):
    folder = write(tmp_path / "found", scenes, "png")
    code, _, err = run("--pred", tmp_path / "nowhere")
    assert code == 4
    assert "nowhere is no folder" in err
    code, _, err = run("--pred", folder, "--split", "test")
    assert code == 4
    assert "holds no 'test' part" in err
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "scores"):
        code, _, err = run("--pred", folder, "--out", out)
        assert code == 2
        assert "is a file: name a folder" in err
    code, _, _ = run("--pred", folder, "--thresholds", 0)
    assert code == 2
