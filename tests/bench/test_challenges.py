"""Challenges: data that gets harder as it says, cells, resuming, curves and their figure."""

import csv
import json
import re
from itertools import pairwise

import numpy as np
import pytest

from segalgos.bench.cell import open_fit, open_test
from segalgos.bench.challenge_curves import build_results, point_lines, student_interval
from segalgos.bench.challenges import CHALLENGES, make_challenge_cells, parse_challenges
from segalgos.bench.report import summary_lines, write_report
from segalgos.bench.report_lines import lay_out_lines
from segalgos.bench.statistics import group_cells
from segalgos.bench.store import read_rows, safe_name
from segalgos.bench.suite import Cell, parse_data, parse_methods
from segalgos.files import write_image, write_labels

EVIL = "<script>alert('x')</script>"


def cells_of(challenge, data="shapes", methods="felzenszwalb", **how):
    cells, left_out = make_challenge_cells(
        parse_challenges(challenge), parse_methods(methods), parse_data(data), **how
    )
    return cells, left_out


def steps_of(challenge, data="shapes[n_images=3, size=(96, 128)]"):
    """A cell of each difficulty, from easy to hard."""
    cells, _ = cells_of(challenge, data, seeds=1)
    return cells


def falls(values):
    return all(a > b for a, b in pairwise(values))


# --- data --------------------------------------------------------------------------------


def test_noise_raises_the_variance_as_it_says():
    images = [np.stack(open_test(cell).images).astype(float) for cell in steps_of("noise")]
    middle = (images[0] > 60) & (images[0] < 195)  # the range ends at 0 and 255
    deviations = [np.std((image - images[0])[middle]) for image in images]
    difficulties = [cell.step.difficulty for cell in steps_of("noise")]
    assert deviations[:2] == pytest.approx(difficulties[:2], abs=0.5)
    assert falls(deviations[::-1])


def test_blur_takes_the_steps_between_pixels_away():
    images = [np.stack(open_test(cell).images).astype(float) for cell in steps_of("blur")]
    assert falls([np.abs(np.diff(image, axis=1)).mean() for image in images])


def test_scale_makes_objects_smaller():
    sizes = [
        np.median([mask.sum() for found in open_test(cell).instances for mask in found.masks])
        for cell in steps_of("scale")
    ]
    assert falls(sizes)
    assert sizes[0] > 10 * sizes[-1]


def test_overlap_hides_more_and_more_of_the_objects():
    def crowding(cell):
        """Share of the objects' pixels that lie in the bounding box of another one."""
        shares = []
        for found in open_test(cell).instances:
            rows, cols = np.mgrid[: found.shape[0], : found.shape[1]]
            boxed = [
                (rows >= a) & (cols >= b) & (rows < c) & (cols < d) for a, b, c, d in found.boxes
            ]
            shares += [(np.sum(boxed, axis=0)[mask] > 1).mean() for mask in found.masks]
        return np.mean(shares)

    assert falls(
        [crowding(cell) for cell in steps_of("overlap", "shapes[n_images=6, size=(96, 128)]")][::-1]
    )


def test_domain_shifts_the_light_that_is_scored_and_not_the_one_learned_from():
    cells = steps_of("domain", "shapes[n_images=5, noise=0.0, size=(96, 128)]")
    learned = [np.stack(open_fit(cell).images) for cell in cells]
    assert all(np.array_equal(learned[0], images) for images in learned)
    even = np.stack(open_test(cells[0]).images).mean(axis=(1, 2, 3))
    spreads = []
    for cell in cells[1:]:
        light = np.stack(open_test(cell).images).mean(axis=(1, 2, 3)) / even
        spreads.append(np.std(np.log(light)))
    assert falls([*spreads[::-1], 0])


def test_semantics_tell_more_classes_apart_in_the_same_images():
    tests = [open_test(cell) for cell in steps_of("semantics")]
    assert [len(test.classes) for test in tests] == [2, 3, 4, 6]
    assert all(np.array_equal(test[0].image, tests[0][0].image) for test in tests)


def test_speed_has_images_of_its_megapixels_and_learns_from_small_ones():
    for cell in steps_of("speed", "shapes[n_images=3]")[:2]:
        test = open_test(cell)
        assert len(test) == 3
        assert np.prod(test[0].image.shape[:2]) / 1e6 == pytest.approx(cell.step.difficulty)
        assert open_fit(cell)[0].image.shape == (192, 256, 3)


def test_fewer_labelled_images_are_a_part_of_more():
    cells, _ = cells_of("few_labels", "shapes[size=(32, 40)]", "random_forest", seeds=2)
    counts = {cell.step.difficulty for cell in cells}
    assert counts == {24, 8, 3, 1}
    for seed in (0, 1):
        own = [cell for cell in cells if cell.seed == seed]
        names = [{sample.name for sample in open_fit(cell)} for cell in own]
        assert [len(found) for found in names] == [24, 8, 3, 1]
        assert all(few < many for many, few in pairwise(names))
        assert len({tuple(sample.name for sample in open_test(cell)) for cell in own}) == 1
    few, _ = cells_of("few_labels", "shapes[size=(32, 40)]", max_images=5)
    assert max(cell.step.difficulty for cell in few) == 5


@pytest.fixture
def camvid(tmp_path):
    for split, names in {
        "train": ("0001TP_1", "0006R0_1", "0006R0_2"),
        "val": ("0016E5_1",),
    }.items():
        for name in names:
            image = np.full((24, 32, 3), 40 if name.startswith("0001TP") else 180, np.uint8)
            write_image(tmp_path / "CamVid" / split / f"{name}.png", image)
            labels = np.zeros((24, 32), np.int32)
            write_labels(tmp_path / "CamVid" / f"{split}annot" / f"{name}.png", labels)
    return tmp_path


def test_real_images_by_number_scale_and_light(camvid):
    choices = parse_data("camvid", str(camvid))
    parsed = parse_methods("kmeans")
    cells, left_out = make_challenge_cells(parse_challenges("all"), parsed, choices, seeds=1)
    shown = {}
    for cell in cells:
        shown.setdefault(cell.step.challenge, []).append(cell.step.shown)
    assert shown == {
        "few_labels": ["3", "2", "1"],
        "domain": ["day", "dusk"],
        "scale": ["1", "0.5", "0.25", "0.125"],
        "speed": ["0.05", "0.2", "0.8", "3.2"],
    }
    assert [line.split(":")[0] for line in left_out] == [
        f"{name} on camvid" for name in ("overlap", "noise", "blur", "semantics")
    ]
    day, dusk = (cell for cell in cells if cell.step.challenge == "domain")
    for cell in (day, dusk):
        assert {sample.name for sample in open_fit(cell)} == {"0006R0_1", "0006R0_2"}
    assert [sample.name for sample in open_test(day)] == ["0016E5_1"]
    assert [sample.name for sample in open_test(dusk)] == ["0001TP_1"]
    half = next(cell for cell in cells if cell.step.shown == "0.5")
    assert open_test(half)[0].image.shape == (12, 16, 3)
    assert open_fit(half)[0].labels.shape == (12, 16)
    with pytest.raises(ValueError, match="chooses split and light itself"):
        make_challenge_cells(parse_challenges("domain"), parsed, choices, split="val")


# --- cells -------------------------------------------------------------------------------


def test_every_seed_has_scenes_and_a_label_of_its_own():
    cells, _ = cells_of("noise,blur", seeds=3)
    assert len(cells) == 2 * 4 * 3  # a method without randomness too
    assert len({cell.key for cell in cells}) == len({cell.data.label for cell in cells}) == 24
    assert {cell.data.options["seed"] for cell in cells} == {0, 1, 2}
    for cell in cells:
        assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


def test_names_are_checked():
    assert parse_challenges("all") == list(CHALLENGES.values())
    assert [c.name for c in parse_challenges("blur, noise,blur")] == ["blur", "noise"]
    with pytest.raises(ValueError, match=r"'nois' is none of few_labels, .*did you mean 'noise'"):
        parse_challenges("nois")
    with pytest.raises(ValueError, match="is empty"):
        parse_challenges(" ")
    with pytest.raises(ValueError, match=r"sets noise itself, which --challenge noise turns"):
        cells_of("noise", "shapes[noise=3.0]")
    assert cells_of("overlap", "pins")[1] == ["overlap on pins: it has no option overlap"]


# --- runs --------------------------------------------------------------------------------


def test_a_run_continues_where_it_stopped(command, tmp_path):
    def bench():
        return command(
            *("bench", "--challenge", "noise", "--data", "shapes[n_images=2, size=(32, 40)]"),
            *("--methods", "hostile:Fine", "--seeds", 1, "--out", tmp_path),
        )

    first = bench()
    assert first.returncode == 0, first.stderr
    rows, _ = read_rows(tmp_path / "results.jsonl")
    assert [row["difficulty"] for row in rows] == [0, 15, 40, 80]
    assert {row["challenge"] for row in rows} == {"noise"}
    assert {row["challenge_data"] for row in rows} == {"shapes[n_images=2, size=(32, 40)]"}
    assert [row["options"]["noise"] for row in rows] == [0, 15, 40, 80]
    assert "(noise): covering from 0 to 80: Fine 0." in first.stdout
    html = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Noise, on shapes[n_images=2, size=(32, 40)]" in html
    assert len(re.findall(r'<svg class="scatter wide"', html)) == 1
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(lines[:3]))
    second = bench()
    assert second.returncode == 0, second.stderr
    again = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    assert again[:3] == lines[:3]
    assert json.loads(again[3])["difficulty"] == 80


# --- curves and figures ------------------------------------------------------------------


def make_row(challenge, difficulty, method, seed, score, *, data="shapes", note="", **more):
    counts = [[[9, 8, 7], [1, 2, 3], [1, 2, 3]]] * 2
    semantic = {
        "headline": "mean_iou_dataset",
        "note": note,
        "scores": {"mean_iou_dataset": score, "iou_per_class": [score, score, score]},
        "images": {"counts": counts},
    }
    partition = {
        "headline": "covering",
        "note": "",
        "scores": {"covering": score},
        "images": {"covering": [score, score]},
    }
    return {
        "format": 1,
        "key": f"{challenge}{difficulty}{method}{seed}{data}",
        "method": method,
        "dataset": f"{data}, {challenge} {difficulty:g}, seed {seed}",
        "challenge": challenge,
        "challenge_data": data,
        "difficulty": difficulty,
        "difficulty_text": f"{difficulty:g}",
        "options": {"seed": seed},
        "seed": seed,
        "status": "ok",
        "reason": "",
        "classes": ["background", "a", "b"],
        "image_names": ["x", "y"],
        "n_images": 2,
        "predict_seconds": 0.01 * difficulty + 0.01,
        "views": {"partition": partition, "semantic": semantic},
        **more,
    }


def make_rows(challenge="few_labels", methods=("unet", "forest"), difficulties=(1, 3, 8, 24)):
    """Scores that fall with fewer images, each method by its own amount."""
    return [
        make_row(challenge, d, method, seed, 0.5 + 0.1 * np.log10(d) * (k + 1) + 0.01 * seed)
        for k, method in enumerate(methods)
        for d in difficulties
        for seed in range(3)
    ]


def test_interval_is_students():
    low, high = student_interval(np.array([0.5, 0.6, 0.7]))  # t of 2 degrees: 4.3027
    assert (low, high) == pytest.approx(
        (0.6 - 4.3027 * 0.1 / 3**0.5, 0.6 + 4.3027 * 0.1 / 3**0.5), abs=1e-4
    )
    assert student_interval(np.array([0.5])) is None


def test_curves_run_from_easy_to_hard_with_the_best_at_the_hardest_first():
    rows = make_rows()
    rows.append(make_row("few_labels", 1, "oracle_method", 0, 0.9, note="oracle"))
    rows.append({**rows[0], "status": "crash", "views": {}})  # the last row of a cell counts
    (result,) = build_results(rows)
    assert [text for _, text in result.difficulties] == ["24", "8", "3", "1"]
    assert (result.view, result.headline) == ("semantic", "mean_iou_dataset")
    assert [curve.method for curve in result.curves] == ["unet", "forest", "oracle_method"]
    assert result.curves[2].upper_bound
    last = result.curves[0].at(3)
    assert last.n_seeds == 2
    assert last.value == pytest.approx(0.515)
    assert result.curves[1].at(0).value == pytest.approx(0.51 + 0.2 * np.log10(24))
    assert result.curves[2].at(0) is None


def test_time_is_averaged_by_its_logarithm():
    rows = [
        make_row("speed", d, "kmeans", seed, 0.5, predict_seconds=d * factor)
        for d in (0.05, 0.8)
        for seed, factor in enumerate((1, 10, 100))
    ]
    (result,) = build_results(rows)
    assert result.headline == "predict_seconds"
    assert [point.value for point in result.curves[0].points] == pytest.approx([0.5, 8])
    low, high = result.curves[0].points[0].interval
    assert low * high == pytest.approx(0.25)  # as far below as above, by factors


def test_rows_of_other_settings_are_not_mixed():
    rows = make_rows() + [{**row, "budget": 60.0} for row in make_rows()]
    assert [r.label for r in build_results(rows)] == [
        "shapes (budget 60.0)",
        "shapes (budget null)",
    ]
    assert build_results([{"method": "x"}]) == []


@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("n_methods", [1, 5, 14])
def test_figure_has_a_line_a_method_and_names_that_do_not_collide(size, n_methods):
    methods = [f"method_{k}" + "_long" * (k % 4) for k in range(n_methods)]
    (result,) = build_results(make_rows("noise", methods, (1, 10, 50)))
    chart = lay_out_lines(result, size)
    assert sorted(line.curve.method for line in chart.lines) == sorted(methods)
    heights = sorted(line.text_y for line in chart.lines)
    assert all(b - a >= 14.9 for a, b in pairwise(heights))
    assert heights[0] >= chart.top - 1
    assert heights[-1] <= chart.height
    for line in chart.lines:
        assert chart.text_x + 6 * len(line.text) <= chart.width
        xs = [x for x, _, _ in line.marks]
        assert chart.left < xs[0] < xs[1] < xs[2] < chart.right + 2
        assert len(line.whiskers) == 3
        for (x, top, bottom), (mark_x, y, _) in zip(line.whiskers, line.marks, strict=True):
            assert x == mark_x
            assert chart.top - 0.1 <= top <= y <= bottom <= chart.bottom + 0.1
    assert len({line.style for line in chart.lines}) == min(n_methods, 8)
    # Hard is on the right although its number is the smaller one.
    (few,) = build_results(make_rows())
    places = {text: x for x, text in lay_out_lines(few, size).x_ticks}
    assert places["24"] < places["8"] < places["3"] < places["1"]
    assert places["3"] - places["8"] == pytest.approx(
        (places["1"] - places["24"]) * np.log(8 / 3) / np.log(24)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("challenges")
    rows = make_rows(methods=("unet", "forest", EVIL))
    rows += make_rows("noise", ("unet", "kmeans"), (1, 15, 40))
    rows[-1] |= {"status": "timeout", "reason": f"took {EVIL}", "views": {}}
    for row in rows:
        folder = safe_name(row["dataset"])
        image, labels = np.full((12, 16, 3), 90, np.uint8), np.zeros((12, 16), np.int32)
        write_image(out / "samples" / folder / "0-image.png", image)
        about = [{"index": 0, "name": "x", "views": ["partition", "semantic"]}]
        (out / "samples" / folder / "samples.json").write_text(json.dumps(about))
        for view in ("partition", "semantic"):
            write_labels(out / "samples" / folder / f"0-truth-{view}.png", labels)
            run = safe_name(f"{row['method']}-{row['seed']}")
            write_labels(out / "predictions" / folder / run / f"0-{view}.png", labels)
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows, write_report(out)


def test_report_has_a_figure_and_a_table_a_challenge(written):
    rows, path = written
    html = path.read_text(encoding="utf-8")
    assert EVIL not in html
    assert html.count('<svg class="scatter wide"') == html.count('<svg class="scatter narrow"') == 2
    assert html.index("Few labels, on shapes") < html.index("Noise, on shapes")
    assert "No run ended well" not in html
    assert "1 of 54 runs failed" in html
    assert html.count("The first image at each step") == 2
    sources = re.findall(r'<img src="([^"]*)"', html)
    # Few labels: four steps of image, truth and three methods; noise: three of two methods.
    assert len(sources) == 4 * 5 + 3 * 4
    assert all((path.parent / source).is_file() for source in sources)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
    assert not re.findall(r"<[^>]* style=", html)
    with open(path.parent / "challenges.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * (4 * 3 + 3 * 2)  # two views and the time
    (line,) = (
        x
        for x in lines
        if (x["challenge"], x["view"], x["method"], x["difficulty"])
        == ("few_labels", "semantic", "unet", "24.0")
    )
    assert float(line["mean"]) == pytest.approx(0.51 + 0.1 * np.log10(24))
    assert line["n_seeds"] == "3"
    assert len(list(point_lines(build_results(rows)))) == len(lines)


def test_challenges_stay_out_of_the_ordinary_tables(written):
    rows, _ = written
    text = summary_lines(rows)
    assert [(dataset, name) for dataset, name, _ in text] == [
        ("shapes", "few_labels"),
        ("shapes", "noise"),
    ]
    assert text[0][2].startswith(f"mean IoU from 24 to 1: {EVIL} 0.924 to 0.510; ")
    assert len(group_cells(rows)) == 21  # what the csv files go by: steps x seeds


def test_rows_with_a_broken_difficulty_are_no_results(tmp_path):
    good = make_row("noise", 0, "kmeans", 0, 0.5)
    broken = [
        {**good, "challenge": "unheard_of"},
        {**good, "difficulty": "much"},
        {**good, "difficulty_text": 3},
        {**good, "challenge": "scale"},  # of which 0 has no logarithm
    ]
    rows = [good, *broken]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "4 lines of results.jsonl are no result" in html
