"""The report of made-up runs: what it says, that it is safe, and that it is whole."""

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from segalgos.bench import report, report_pictures
from segalgos.bench import report_words as words
from segalgos.bench.kept import write_objects, write_prompts
from segalgos.bench.report import summary_lines, write_report
from segalgos.bench.report_scatter import Point, lay_out
from segalgos.bench.store import safe_name
from segalgos.bench.user import dab
from segalgos.files import read_image, write_image, write_labels
from segalgos.results import Instances

EVIL = "<script>alert('x')</script>"
EVIL_ATTRIBUTE = '"><img src=https://evil.example/x onerror=alert(1)>'

# name, segmenter, family, task, year, trained, quality, seconds an image, megabytes, parameters
METHODS = [
    ("kmeans", "KMeansSegmenter", "clustering", "partition", 1982, False, 0.52, 0.006, 180, None),
    ("slic", "SLICSegmenter", "clustering", "partition", 2012, False, 0.55, 0.011, 190, None),
    (
        "felzenszwalb",
        "FelzenszwalbSegmenter",
        "graph",
        "partition",
        2004,
        False,
        0.61,
        0.02,
        185,
        0,
    ),
    (
        "random_forest",
        "RandomForestSegmenter",
        "pixels",
        "semantic",
        2001,
        True,
        0.7,
        0.14,
        420,
        81320,
    ),
    ("unet[depth=4]", "UNetSegmenter", "nets", "semantic", 2015, True, 0.86, 0.09, 910, 1_942_018),
    ("cuts" + EVIL, EVIL_ATTRIBUTE, "graph", "partition", 2000, False, 0.44, 1.9, 600, None),
]
DATASETS = {
    "shapes": ("background", "disc", "bar", "ring", "star"),
    "leaves & twigs": ("soil", "leaf", "twig", "stone", "sky", EVIL, "bark", "moss"),
}


def scene(rng, size, n_classes):
    """Draw an image of textured discs on a gradient, with classes and objects."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    classes, objects = np.zeros(size, np.int32), np.zeros(size, np.int32)
    colors = rng.uniform(40, 220, (n_classes, 3))
    for number in range(1, 9):
        radius = rng.uniform(0.08, 0.25) * min(size)
        inside = np.hypot(rows - rng.uniform(0, size[0]), cols - rng.uniform(0, size[1])) < radius
        classes[inside], objects[inside] = rng.integers(1, n_classes), number
    image = colors[classes] + 40 * rows[..., None] / size[0] + rng.normal(0, 12, (*size, 3))
    return image.clip(0, 255).astype(np.uint8), classes, objects


def wobble(rng, labels, quality):
    """Disturb a label map, less for a better method."""
    n = max(int((1 - quality) * 14), 1)
    shifts = rng.integers(-n, n + 1, (labels.shape[0] // 6 + 1, 2)).repeat(6, axis=0)
    return np.stack(
        [np.roll(labels[(r + shift[0]) % labels.shape[0]], shift[1])
         for r, shift in zip(range(labels.shape[0]), shifts)]
    )  # fmt: skip


def semantic_view(predictions, truths, n_classes, note):
    classes = np.arange(n_classes)[:, None]
    counts = []
    for prediction, truth in zip(predictions, truths):
        predicted, true = prediction.ravel() == classes, truth.ravel() == classes
        hits = (predicted & true).sum(axis=1)
        counts.append([hits, predicted.sum(axis=1) - hits, true.sum(axis=1) - hits])
    counts = np.array(counts)
    sums = counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        iou, image_iou = sums[0] / sums.sum(axis=0), counts[:, 0] / counts.sum(axis=1)
    means = [float(np.mean(values[~np.isnan(values)])) for values in image_iou]
    return {
        "headline": "mean_iou_dataset",
        "note": note,
        "scores": {
            "iou_per_class": [None if np.isnan(v) else v for v in iou.tolist()],
            "mean_iou_dataset": float(iou[~np.isnan(iou)].mean()),
            "mean_iou_images": float(np.mean(means)),
            "pixel_accuracy": float(sums[0].sum() / (sums[0] + sums[2]).sum()),
        },
        "images": {"mean_iou_images": means, "counts": counts.tolist()},
    }


def partition_view(rng, quality, n_images, note):
    covering = (quality + rng.normal(0, 0.07, n_images)).clip(0, 1).tolist()
    voi = ((1 - quality) * 4 + rng.normal(0, 0.2, n_images)).clip(0).tolist()
    images = {"covering": covering, "variation_of_information": voi, "n_regions": [31] * n_images}
    scores = {name: float(np.mean(values)) for name, values in images.items()}
    return {"headline": "covering", "note": note, "scores": scores, "images": images}


def instance_view(rng, quality, n_images):
    true = rng.integers(5, 9, (n_images, 1))
    hits = rng.binomial(true, quality * np.linspace(1, 0.3, 10))
    counts = np.stack([hits, true - hits + rng.binomial(3, 0.5, hits.shape), true - hits], axis=-1)
    sums = counts.sum(axis=0)
    scores = {"mean_matching_ap": float((sums[:, 0] / sums.sum(axis=1)).mean())}
    images = {
        "mean_matching_ap": (counts[..., 0] / counts.sum(axis=-1)).mean(axis=1).tolist(),
        "counts": counts.tolist(),
    }
    note = "connected components"
    return {"headline": "mean_matching_ap", "note": note, "scores": scores, "images": images}


def make_run(out, *, n_images=8, size=(48, 64), n_seeds=3, n_kept=3, methods=METHODS):
    """Write the folder of a benchmark: rows, samples and predictions."""
    rows = []
    for dataset, classes in DATASETS.items():
        rng = np.random.default_rng(len(dataset))
        folder = safe_name(dataset)
        views = ["partition", "semantic"] + ["instance"] * (dataset == "shapes")
        scenes = [scene(rng, size, len(classes)) for _ in range(n_images)]
        names = [f"photo_{i:03}" for i in range(n_images)]
        names[0] = EVIL_ATTRIBUTE
        kept = np.linspace(0, n_images - 1, n_kept).astype(int).tolist()
        listed = []
        for i in kept:
            image, truth, objects = scenes[i]
            stem = out / "samples" / folder / str(i)
            write_image(f"{stem}-image.png", image)
            for view in views:
                labels = truth if view == "semantic" else objects
                write_labels(f"{stem}-truth-{view}.png", np.where(labels == 8, 65535, labels))
            listed.append({"index": i, "name": names[i], "height": 1, "width": 1, "views": views})
        if kept:
            (out / "samples" / folder / "samples.json").write_text(json.dumps(listed))
        for method in methods:
            for seed in range(n_seeds):
                row = make_row(rng, dataset, classes, names, method, seed)
                if row["status"] == "ok":
                    _, _, _, task, *_, quality, seconds, _, _ = method
                    predictions = [wobble(rng, truth, quality) for _, truth, _ in scenes]
                    truths = [truth for _, truth, _ in scenes]
                    is_semantic = task == "semantic"
                    note = "connected components" if is_semantic else ""
                    row["views"] = {
                        "partition": partition_view(rng, quality, n_images, note),
                        "semantic": semantic_view(
                            predictions, truths, len(classes), "" if is_semantic else "oracle"
                        ),
                    }
                    if is_semantic and "instance" in views:
                        row["views"]["instance"] = instance_view(rng, quality, n_images)
                    row["image_seconds"] = (seconds * rng.uniform(0.9, 1.2, n_images)).tolist()
                    for i in kept:
                        for view in row["views"]:
                            path = predictions_path(out, folder, method[0], seed, i, view)
                            labels = scenes[i][2] if view != "semantic" else scenes[i][1]
                            write_labels(path, wobble(rng, labels, quality))
                rows.append(row)
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def predictions_path(out, folder, method, seed, index, view):
    return out / "predictions" / folder / safe_name(f"{method}-{seed}") / f"{index}-{view}.png"


def make_row(rng, dataset, classes, names, method, seed):
    name, segmenter, family, task, year, trained, _, seconds, megabytes, n_parameters = method
    row = {
        "format": 1,
        "key": f"{dataset}{name}{seed}",
        "method": name,
        "segmenter": segmenter,
        "family": family,
        "task": task,
        "year": year,
        "trained": trained,
        "params": {"n": 4, "text": EVIL},
        "dataset": dataset,
        "split": "test",
        "fit_split": "train",
        "options": {},
        "seed": seed,
        "budget": 20.0,
        "started": "2026-01-01T12:00:00Z",
        "peak_memory_mb": megabytes * rng.uniform(0.9, 1.1),
        "seconds": 20 * seconds,
        "machine": {"cpu": "Some CPU", "cores": 2, "memory_gb": 23.5, "system": "Linux-6"},
        "versions": {"segalgos": "0.1.0", "python": "3.11.9", "numpy": "2.4.6"},
        "reason": "",
    }
    if name.startswith("unet") and dataset == "shapes" and seed == 2:
        failure = {"status": "crash", "reason": "killed by SIGSEGV", "output_tail": f"deep\n{EVIL}"}
        return row | failure
    if name.startswith("cuts") and dataset != "shapes":
        return row | {"status": "timeout", "reason": "took more than 500 s", "output_tail": ""}
    return row | {
        "status": "ok",
        "classes": list(classes),
        "image_names": names,
        "n_images": len(names),
        "n_fit_images": 24 if trained else None,
        "n_parameters": n_parameters,
        "fit_seconds": 18.4 if trained else None,
        "first_predict_seconds": seconds + 0.8,
        "predict_seconds": seconds * rng.uniform(0.95, 1.05),
        "views": {},
    }


class Page(HTMLParser):
    """Every tag of a page with its attributes, and the text inside each kind of tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with everything that can go wrong in names, and its report."""
    out = tmp_path_factory.mktemp("bench")
    rows = make_run(out)
    return out, rows, write_report(out)


@pytest.fixture(scope="module")
def html(run):
    return run[2].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_path_is_the_page_of_the_report(run):
    out, _, path = run
    assert path == out / "report" / "index.html"
    assert not list(out.glob(".report-*"))


def test_text_of_rows_becomes_no_markup(page, html):
    assert len(page.all("script")) == 1
    assert EVIL not in html
    assert EVIL_ATTRIBUTE not in html
    assert "&lt;script&gt;alert" in html
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag
    assert not [attrs for attrs in page.all("img") if "evil" in (attrs.get("src") or "")]


def test_page_asks_for_nothing_outside_the_report(page, html, run):
    folder = run[2].parent
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            target = attrs.get(name)
            if target is None:
                continue
            if target.startswith("#"):
                assert target[1:] in ids
            else:
                assert re.fullmatch(r"[\w/.-]+", target), (tag, name)
                assert (folder / target).is_file()
    assert "url(" not in page.texts["style"]
    assert "@import" not in page.texts["style"]


def test_policy_allows_own_style_script_and_pictures_only(page):
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self'"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        digest = hashlib.sha256(page.texts[tag].encode()).digest()
        assert rules[name] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_report_opens_with_the_answers(html):
    opening = html[html.index("<main>") : html.index("<table")]
    for question in ("Most accurate", "Best under 0.1 s an image", "Best without training"):
        assert opening.count(question) == 5  # views
    assert opening.index("unet[depth=4]") < opening.index("felzenszwalb")


def test_tables_can_be_read_by_machines_for_people(page):
    assert all("scope" in attrs for attrs in page.all("th"))
    assert all(attrs.get("alt") and attrs.get("loading") == "lazy" for attrs in page.all("img"))
    assert all(attrs.get("aria-label") for attrs in page.all("svg") if attrs.get("role") == "img")


def test_failed_cells_are_listed_with_reason_and_output(html):
    failures = html[html.index('id="failed"') :]
    assert "killed by SIGSEGV" in failures
    assert failures.count("took more than 500 s") == 3
    assert "<pre>deep\n&lt;script&gt;" in failures
    assert "4 of 36 runs failed" in html


def test_every_picture_is_there_once_and_small(run, page):
    folder = run[2].parent
    shown = {attrs["src"] for attrs in page.all("img")}
    assert shown == {f"pictures/{path.name}" for path in (folder / "pictures").iterdir()}
    # 2 data sets of 3 images; views x (truth + methods that ended well), and the image itself.
    shapes, leaves = 1 + (1 + 6) + (1 + 6) + (1 + 2), 1 + (1 + 5) + (1 + 5)
    assert len(shown) == 3 * (shapes + leaves)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2e6


def test_results_csv_has_a_line_a_cell(run):
    _, rows, path = run
    with open(path.parent / "results.csv", newline="", encoding="utf-8") as file:
        lines = {(r["dataset"], r["method"], int(r["seed"])): r for r in csv.DictReader(file)}
    assert len(lines) == len(rows)
    row = rows[4]
    line = lines[row["dataset"], row["method"], row["seed"]]
    scores = row["views"]["semantic"]["scores"]
    assert float(line["semantic.mean_iou_dataset"]) == scores["mean_iou_dataset"]
    assert float(line["semantic.iou_per_class.disc"]) == scores["iou_per_class"][1]
    assert float(line["predict_seconds"]) == row["predict_seconds"]
    crash = lines["shapes", "unet[depth=4]", 2]
    assert (crash["status"], crash["reason"]) == ("crash", "killed by SIGSEGV")
    assert crash["semantic.mean_iou_dataset"] == ""


def test_images_csv_has_a_line_a_cell_image_and_score(run):
    _, rows, path = run
    with open(path.parent / "images.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    n_scores = {"partition": 3, "semantic": 1, "instance": 1}
    views = [view for row in rows if row["status"] == "ok" for view in row["views"]]
    assert len(lines) == 8 * sum(n_scores[view] for view in views)
    row = rows[0]
    own = [
        float(r["value"])
        for r in lines
        if (r["dataset"], r["method"], r["seed"]) == (row["dataset"], row["method"], "0")
        and r["score"] == "covering"
    ]
    assert own == row["views"]["partition"]["images"]["covering"]


def test_spreadsheets_see_no_formula():
    assert report._csv_cell("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert report._csv_cell("-2+3") == "'-2+3"
    assert report._csv_cell(-0.25) == -0.25
    assert report._csv_cell(None) == ""


def test_summary_says_the_same_in_plain_text(run):
    lines = summary_lines(run[1])
    assert len(lines) == 15
    texts = {(dataset, view, text.split(":")[0]): text for dataset, view, text in lines}
    best = texts["shapes", "semantic", "most accurate"]
    assert re.match(
        r"most accurate: unet\[depth=4\], mean_iou_dataset 0\.\d+ \(0\.\d+ to 0\.\d+\)", best
    )
    assert "MB" in best
    none = texts["shapes", "semantic", "best without training"]
    assert none.startswith("best without training: none; as an upper bound, ")
    assert texts["shapes", "instance", "best without training"].endswith("learned from labels")


def test_run_in_which_everything_failed(tmp_path):
    rng = np.random.default_rng(0)
    row = make_row(rng, "shapes", ["a"], ["x"], METHODS[4], 2)
    assert row["status"] == "crash"
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No run ended well" in html
    assert "killed by SIGSEGV" in html
    assert summary_lines([row]) == []


@pytest.mark.parametrize("content", ["", "{torn", '{"key": 1}\n'])
def test_no_results_is_a_clear_error(tmp_path, content):
    (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"results.jsonl holds no result .*: run segalgos bench"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"results.jsonl does not exist: run segalgos bench"
    ):
        write_report(tmp_path)


def test_unreadable_lines_are_counted_and_left_out(run, tmp_path):
    rows = run[1]
    wrong = [
        rows[0] | {"predict_seconds": EVIL},
        rows[0] | {"views": {"partition": {"headline": "covering"}}},
        rows[0] | {"image_names": rows[0]["image_names"][:-1]},
        rows[0] | {"format": 2},
    ]
    text = json.dumps(rows[0]) + "\n" + "".join(json.dumps(row) + "\n" for row in wrong)
    (tmp_path / "results.jsonl").write_text(text + json.dumps(rows[1])[:-40])
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "5 lines of results.jsonl are no result" in html
    assert "1 run, none failed." in html


def test_missing_and_damaged_pictures_are_left_out(tmp_path):
    make_run(tmp_path, n_images=2, n_kept=2, n_seeds=1, methods=METHODS[:2])
    (tmp_path / "predictions" / "shapes" / "kmeans-0" / "0-partition.png").unlink()
    (tmp_path / "predictions" / "shapes" / "slic-0" / "1-semantic.png").write_bytes(b"no picture")
    path = write_report(tmp_path)
    # 2 images, each 1 + views x (truth + 2 methods): shapes has a truth without predictions too.
    assert len(list((path.parent / "pictures").iterdir())) == 2 * (1 + 3 + 3 + 1) + 2 * 7 - 2


def drawn(out, name):
    """The instance picture of a method on the first image of shapes, and what it shows."""
    folder = out / name
    folder.mkdir()
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    sample = report_pictures.write_pictures(out, folder, report.group_cells(rows))["shapes"][0]
    picture = sample.predictions["unet[depth=4]", "instance"]
    return read_image(folder / picture.path).astype(int), picture.shows


def test_objects_are_shown_with_scores_and_prompts_with_marks(tmp_path):
    make_run(tmp_path, size=(96, 128), n_images=2, n_kept=2, n_seeds=1, methods=METHODS[4:5])
    plain, shows = drawn(tmp_path, "plain")
    assert shows == ()

    folder = predictions_path(tmp_path, "shapes", "unet[depth=4]", 0, 0, "instance").parent
    masks = np.zeros((2, 96, 128), bool)
    masks[0, 30:60, 20:60] = masks[1, 45:90, 40:90] = True
    (folder / "0-objects.json").write_bytes(write_objects(Instances(masks, [0.5, 0.75], [1, 2])))
    with_scores, shows = drawn(tmp_path, "scores")
    assert shows == ("scores",)
    # Uncoloured beyond the objects and their text, unlike the label map.
    image = read_image(tmp_path / "samples" / "shapes" / "0-image.png").astype(int)
    assert np.abs(with_scores - image)[:, 100:].mean() < 12 < np.abs(plain - image)[:, 100:].mean()
    assert np.abs(with_scores - image)[masks.any(axis=0)].mean() > 25

    truth = np.zeros((96, 128), np.int32)
    truth[masks[1]] = 2
    prompts = dab(truth)
    (folder / "0-prompts.json").write_bytes(write_prompts(prompts, truth.shape))
    with_prompts, shows = drawn(tmp_path, "prompts")
    assert shows == ("scores", "prompts")
    marked = np.abs(with_prompts - with_scores).max(axis=-1) > 60
    places = [np.argwhere(prompts.scribbles == k).mean(axis=0) for k in (0, 2)]
    near = [np.hypot(*(np.argwhere(marked) - place).T) < 12 for place in places]
    assert [n.sum() > 30 for n in near] == [True, True]
    assert (near[0] | near[1]).mean() > 0.9  # nothing but the two dabs

    (folder / "0-objects.json").write_bytes(b"{torn")
    (folder / "0-prompts.json").write_bytes(b"[]")
    damaged, shows = drawn(tmp_path, "damaged")
    assert np.array_equal(damaged, plain)
    assert shows == ()


def test_page_explains_scores_and_prompts_where_they_are_shown(tmp_path):
    make_run(tmp_path, n_images=2, n_kept=2, n_seeds=1, methods=METHODS[4:5])

    def explained():
        html = write_report(tmp_path).read_text(encoding="utf-8")
        return [html.count(words.MARKS[mark]) for mark in ("scores", "prompts")]

    assert explained() == [0, 0]
    folder = predictions_path(tmp_path, "shapes", "unet[depth=4]", 0, 0, "instance").parent
    objects = Instances(np.ones((1, 48, 64), bool))
    (folder / "0-objects.json").write_bytes(write_objects(objects))
    assert explained() == [1, 0]
    prompts = dab(np.zeros((48, 64), np.int32))
    (folder / "1-prompts.json").write_bytes(write_prompts(prompts, (48, 64)))
    assert explained() == [1, 3]  # in each view


def test_prompts_have_the_colors_of_what_is_under_them():
    scribbles = np.full((20, 30), -1)
    scribbles[2:4, 2:8], scribbles[10:12, 2:8], scribbles[15, 25] = 0, 5, 9
    prompts = report_pictures.Prompts(scribbles=scribbles)
    regions = np.zeros((20, 30), np.int32)
    regions[8:], regions[15:, 20:] = 1, -1
    palette = report_pictures.label_colors(10)
    colors = report_pictures._prompt_colors(prompts, regions, False, False)
    assert np.array_equal(colors[[0, 5, 9]], [palette[0], palette[1], [255] * 3])
    colors = report_pictures._prompt_colors(prompts, regions, True, True)  # classes
    assert np.array_equal(colors[[0, 5, 9]], [[255] * 3, palette[5], palette[9]])


def test_class_names_are_written_where_classes_differ():
    objects = Instances(np.ones((1, 3, 4), bool), classes=[2])
    names = report_pictures._short_names(objects, ("background", "leaf", "very long  class\nname"))
    assert names == ["background", "leaf", "very long clas"]
    assert report_pictures._short_names(objects, ("background", "pin")) is None
    assert report_pictures._short_names(objects[[]], ("background", "pin")) is None
    assert report_pictures._short_names(objects, ("disc", "box")) is None  # no such class


def test_failure_leaves_the_old_report(tmp_path, monkeypatch):
    make_run(tmp_path, n_images=2, n_kept=0, n_seeds=1, methods=METHODS[:2])
    path = write_report(tmp_path)
    before = path.read_bytes()

    def fail(context):
        raise RuntimeError("disk full")

    monkeypatch.setattr(report, "_render", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_report(tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    monkeypatch.undo()
    (tmp_path / "report" / "old.txt").write_text("of the old report")
    (tmp_path / ".report-new-killed").mkdir()
    write_report(tmp_path)
    assert not (tmp_path / "report" / "old.txt").exists()
    assert not (tmp_path / ".report-new-killed").exists()


@pytest.mark.parametrize("width", [760, 360])
def test_labels_of_the_chart_do_not_collide(width):
    rng = np.random.default_rng(3)
    seconds, scores = 10 ** rng.uniform(-3, 1, 16), rng.uniform(0.3, 0.9, 16)
    points = [
        Point(f"method_{i}", t, s, (s - 0.02, s + 0.02), "graph", False)
        for i, (t, s) in enumerate(zip(seconds, scores))
    ]
    chart = lay_out(points, width, 420, 0.1)
    boxes = [
        (m.text_x, m.text_y - 10, m.text_x + 6 * len(m.text), m.text_y + 2) for m in chart.marks
    ]
    for i, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[2] <= width
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    # A ten times slower method is as much further right as any other such pair.
    by_name = {m.point.name: m for m in chart.marks}
    decades = np.log10(seconds[1] / seconds[0])
    per_decade = (by_name["method_1"].x - by_name["method_0"].x) / decades
    decades = np.log10(seconds[3] / seconds[2])
    assert (by_name["method_3"].x - by_name["method_2"].x) / decades == pytest.approx(per_decade)
    assert chart.guide is not None


def test_chart_of_nothing_is_none():
    assert lay_out([], 760, 420, 0.1) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.00042, "0.42 ms"),
        (0.0312, "31.2 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (600, "10.0 min"),
    ],
)
def test_durations_have_a_unit_that_suits(seconds, text):
    assert words.duration(seconds) == text


def test_other_numbers_are_short():
    assert words.number(0.12345) == "0.123"
    assert words.number(float("nan")) == "–"
    assert words.number(1234.5) == "1234"
    assert words.count(1_942_018) == "1.94 M"
    assert words.count(999) == "999"
    assert words.megabytes(12345.0) == "12.3 GB"
