"""Write the tables of the README and the docs from the catalogue and the measured rows.

    python docs/generate_tables.py            # write
    python docs/generate_tables.py --check    # exit 1 if a table is not up to date

Rows are in ``benchmarks/results/<name>/results.jsonl`` as `segalgos bench` wrote them, the
command that did beside them in ``command.txt``. Published results on Cityscapes are in
``segalgos/bench/cityscapes_published.json``.
"""

import importlib.util
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from segalgos import catalog
from segalgos.bench import cityscapes
from segalgos.bench.challenge_curves import CurvePoint, build_results
from segalgos.bench.statistics import Standing, Table, build_tables
from segalgos.bench.store import read_rows
from segalgos.datasets._findings import KINDS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TITLES = {
    "covering": "covering",
    "mean_iou_dataset": "mean IoU (data set)",
    "mean_matching_ap": "mean matching AP",
}


def methods_table() -> list[list[str]]:
    """Rows of the table of methods, titles first."""
    titles = ["method", "class", "family", "gives", "year", "what it does"]
    return [
        titles,
        *(
            [f"`{e.key}`", f"`{e.name}`", e.family, e.task, str(e.year), e.summary]
            for e in catalog.ENTRIES
        ),
    ]


def score_text(standing: Standing) -> str:
    """Score with its interval, rank and marks."""
    if math.isnan(standing.score):
        return "-"
    text = f"{standing.score:.3f}"
    if standing.interval:
        text += " [{:.3f}, {:.3f}]".format(*standing.interval)
    return text


def rank_text(standing: Standing) -> str:
    """Rank, "=" where it is shared; upper bounds have none."""
    if standing.rank is None:
        return "upper bound" if standing.upper_bound else "-"
    return f"{standing.rank}{'=' if standing.tied else ''}"


def seconds_text(seconds: float | None) -> str:
    """Seconds with three significant digits."""
    return "-" if seconds is None else f"{seconds:.3g}"


def results_table(table: Table) -> list[list[str]]:
    """Rows of the table of one data set and view, titles first."""
    rows = [["rank", "method", TITLES[table.headline], "seeds", "fit s", "predict s", "peak MB"]]
    for standing in table.standings:
        memory = standing.peak_memory_mb
        rows.append(
            [
                rank_text(standing),
                f"`{standing.method}`" + (f" ({standing.note})" if standing.note else ""),
                score_text(standing),
                str(standing.n_seeds),
                seconds_text(standing.fit_seconds),
                seconds_text(standing.predict_seconds),
                "-" if memory is None else f"{memory:.0f}",
            ]
        )
    rows += [["-", f"`{name}`", how, "0", "-", "-", "-"] for name, how in table.failed.items()]
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def rst(rows: list[list[str]]) -> str:
    """A reStructuredText list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for i, text in enumerate(row):
            lines.append(("   * - " if i == 0 else "     - ") + text.replace("`", "``"))
    return "\n".join(lines)


def measured(render, heading) -> str:
    """All result tables, with the command that made each."""
    parts = []
    for folder in sorted(path.parent for path in RESULTS.glob("*/results.jsonl")):
        rows, _ = read_rows(folder / "results.jsonl")
        command = (folder / "command.txt").read_text().strip()
        machine = next(row["machine"] for row in rows if "machine" in row)
        for table in build_tables(rows):
            n_images = len(table.image_names)
            split = rows[0]["split"]
            parts += [
                heading(f"{table.dataset} {split}, {table.view} view, {n_images} images"),
                render(results_table(table)),
            ]
        parts.append(f"`{command}`, {machine['cpu']}, {machine['cores']} cores.")
    return "\n\n".join(parts)


def script(name: str, folder: str = "benchmarks/peers") -> ModuleType:
    """A script of the benchmarks, imported."""
    if name not in sys.modules:
        path = ROOT / folder / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def peers() -> str:
    """Tables of ours against other packages, from the rows of ``benchmarks/peers``."""
    measure = script("measure")
    parts = []
    for path in sorted((RESULTS / "peers").glob("*/results.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        about = json.loads((path.parent / "about.json").read_text())
        machine = about["machine"]
        parts += [
            rst(measure.table(rows)),
            f"``{about['command']}``, {machine['cpu']}, {machine['threads']} threads.",
        ]
    return "\n\n".join(parts)


def scribbles() -> str:
    """Quality of pixel classifiers that learned from a few strokes, ours and a peer's."""
    script("measure")  # which it imports
    parts = []
    for path in sorted((RESULTS / "scribbles").glob("*/results.jsonl")):
        rows, _ = read_rows(path)
        about = json.loads((path.parent / "about.json").read_text())
        parts += [
            rst(script("scribbles").table(rows)),
            "; ".join(f"``{command}``" for command in (about["command"], *about.get("again", [])))
            + f"; {about['machine']['cpu']}.",
        ]
    return "\n\n".join(parts)


def interactive() -> str:
    """Clicks that interactive methods need, from the rows of ``benchmarks/interactive.py``."""
    parts = []
    for path in sorted((RESULTS / "interactive").glob("*/results.jsonl")):
        rows, _ = read_rows(path)
        command = (path.parent / "command.txt").read_text().strip()
        parts += [rst(script("interactive", "benchmarks").table(rows)), f"``{command}``."]
    return "\n\n".join(parts)


def challenges() -> str:
    """Scores of methods on data that gets harder, with 95 % intervals over seeds."""
    parts = []
    for path in sorted((RESULTS / "challenges").glob("*/results.jsonl")):
        rows, _ = read_rows(path)
        for result in build_results(rows):
            lines = [["method", *(text for _, text in result.difficulties)]]
            for curve in result.curves:
                bound = " (upper bound)" if curve.upper_bound else ""
                points = [curve.at(place) for place in range(len(result.difficulties))]
                lines.append([f"`{curve.method}`{bound}", *map(point_text, points)])
            title, axis = result.challenge.title, result.challenge.axis
            score = TITLES.get(result.headline, "seconds an image")
            parts += [f"*{title}*, {score} by {axis}:", rst(lines)]
        commands = (path.parent / "command.txt").read_text().splitlines()
        told = ", ".join(f"``{command}``" for command in commands)
        n_seeds = max(
            point.n_seeds for r in build_results(rows) for c in r.curves for point in c.points
        )
        machine = rows[0]["machine"]
        parts.append(f"{told}, {n_seeds} seeds, {machine['cpu']}, {machine['cores']} cores.")
    return "\n\n".join(parts) or "No rows yet."


def point_text(point: CurvePoint | None) -> str:
    """Score with its interval."""
    if point is None:
        return "-"
    text = f"{point.value:.3f}"
    return text + " [{:.3f}, {:.3f}]".format(*point.interval) if point.interval else text


def pins() -> str:
    """What the steps of the case study found, and what each cost."""
    folder = RESULTS / "pins" / "study"
    if not (folder / "results.jsonl").exists():
        return "No rows yet."
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    titles = ["labelling, minutes", "learning, CPU s", "CPU s a picture"]
    found = ["recall: small", "medium", "large", "precision", "F1", "state right"]
    lines = [["method", *titles, *found]]
    for row in rows:
        scores = row["scores"]
        values = [*scores["recall_by_size"].values()]
        values += [scores[name] for name in ("precision", "f1", "state_right")]
        costs = [f"{row['label_minutes']:.0f}", f"{row['fit_cpu_seconds']:.0f}"]
        costs.append(f"{row['cpu_seconds_per_image']:.2f}")
        shares = ["-" if value is None else f"{value:.2f}" for value in values]
        lines.append([row["method"], *costs, *shares])
    sizes = ", ".join(map(str, rows[0]["scores"]["n_by_size"]))
    text = f"{rows[0]['n_images']} test pictures; {sizes} small, medium and large objects."
    commands = dict.fromkeys(f"``{row['command']}``" for row in rows)
    return "\n\n".join([rst(lines), text, "; ".join(commands) + "."])


def inspections() -> str:
    """Defects that the inspection reports of the case study name."""
    path = RESULTS / "pins" / "study" / "inspections.jsonl"
    if not path.exists():
        return "No rows yet."
    lines = [["objects by", "defects there", "reported", "recall", "precision"]]
    for row in map(json.loads, path.read_text().splitlines()):
        shares = [row["defect_recall"], row["defect_precision"]]
        shares = ["-" if value is None else f"{value:.2f}" for value in shares]
        lines.append([row["method"], str(row["n_defects"]), str(row["n_reported"]), *shares])
    return rst(lines)


def active_learning() -> str:
    """Images that have to be labelled, from the rows of ``benchmarks/active_learning.py``."""
    benchmark = script("active_learning", "benchmarks")
    rows, commands = [], []
    for path in sorted((RESULTS / "active_learning").glob("*/results.jsonl")):
        rows += read_rows(path)[0]
        commands.append((path.parent / "command.txt").read_text().strip())
    return "\n\n".join(
        [
            rst(benchmark.table(rows)),
            "Settings, on images that are not scored above:",
            rst(benchmark.table(rows, "choose")),
            "; ".join(f"``{command}``" for command in commands) + ".",
        ]
    )


def spread(values: list[float]) -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.3f}"


def training(name: str, columns: dict[str, Callable[[dict], float]]) -> str:
    """Scores of the nets that a script of ``benchmarks/training`` trained, over their seeds."""
    path = RESULTS / "training" / name / "results.jsonl"
    if not path.exists():
        return "No rows yet."
    runs: dict[tuple, list[dict]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        precision = row["parameters"].get("precision", "float32")
        runs.setdefault((row["minutes"], row["net"], precision), []).append(row)
    lines = [["minutes", "net", "parameters", "in", "seeds", "steps", *columns, "s an image"]]
    commands = []
    for (minutes, net, precision), rows in sorted(runs.items()):
        alone = [row for row in rows if "epochs" not in row]
        lines.append(
            [
                f"{minutes:g}",
                f"`{net}`",
                f"{rows[0]['n_parameters'] / 1e6:.1f} M",
                precision,
                str(len(rows)),
                f"{statistics.fmean(row['steps'] for row in rows):.0f}",
                *(spread([score(row["scores"]) for row in rows]) for score in columns.values()),
                f"{statistics.fmean(_seconds(row['scores']) for row in alone or rows):.2f}",
            ]
        )
        for epochs in sorted({row.get("epochs", 0) for row in rows}):
            seeds = ",".join(str(r["seed"]) for r in rows if r.get("epochs", 0) == epochs)
            ending = f" --epochs {epochs}" if epochs else ""
            commands.append(f"``--net {net} --minutes {minutes:g}{ending} --seeds {seeds}``")
    machine = json.loads(path.read_text().splitlines()[0])["machine"]
    return "\n\n".join(
        [
            rst(lines),
            f"``python benchmarks/training/{name}.py`` with {'; '.join(commands)}; {machine}.",
        ]
    )


def _seconds(scores: dict) -> float:
    """Time of a prediction in the scores of a run, of the first part that was scored."""
    if "seconds_per_image" not in scores:
        scores = next(iter(scores.values()))
    return scores["seconds_per_image"]


CAMVID = {
    "mean IoU, val": lambda scores: scores["val"]["mean_iou"],
    "pixel accuracy, val": lambda scores: scores["val"]["pixel_accuracy"],
}
NUCLEI = {
    "AP at IoU .5": lambda scores: scores["all"]["AP50"],
    "at .75": lambda scores: scores["all"]["AP75"],
    "fluorescence, .5": lambda scores: scores["fluorescence"]["AP50"],
    "stained, .5": lambda scores: scores["stained"]["AP50"],
}
COCO128 = {
    "AP of masks, learned from": lambda scores: scores["learned from"]["AP"],
    "at .5": lambda scores: scores["learned from"]["AP50"],
    "held out, at .5": lambda scores: scores["held out"]["AP50"],
    "learned from, after one step, at .5": lambda scores: scores["learned from, after one step"][
        "AP50"
    ],
}


def precision() -> str:
    """How nets agree with themselves in bfloat16, from ``benchmarks/training/precision.py``."""
    path = RESULTS / "training" / "precision" / "results.jsonl"
    if not path.exists():
        return "No rows yet."
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    titles = ["net", "minutes", "same class", "of the worst image", "mean IoU, float32", "bfloat16"]
    lines = [[*titles, "ms an image, float32", "bfloat16"]]
    for row in rows:
        net, minutes, _ = row["run"].split("-")
        lines.append([f"`{net}`", minutes.removesuffix("min")])
        lines[-1] += [f"{100 * row[key]:.2f} %" for key in ("agreement", "least_agreement")]
        lines[-1] += [f"{value:.4f}" for value in row["mean_iou"].values()]
        lines[-1] += [f"{1e3 * value:.0f}" for value in row["seconds"].values()]
    how = f"{rows[0]['machine']}, {rows[0]['threads']} threads"
    return f"{rst(lines)}\n\n``python benchmarks/training/precision.py``; {how}."


def pretraining(kind: str) -> str:
    """Scores of nets on few labels with and without pretraining.

    They are on "val", or on a "street" kept aside. "probes" and "tuning" are of methods of
    pretraining: by probes, and by short runs.
    """
    module = script("pretrain_tables", "benchmarks/training")
    tables = {
        "val": module.table,
        "probes": module.probe_table,
        "tuning": module.tuning_table,
        "street": module.street_table,
    }
    path = RESULTS / "training" / "pretrain" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    part = "tuning" if kind == "street" else kind
    parts = ["probes" if "probes" in row else next(iter(row["scores"])) for row in rows]
    rows = [row for row, own in zip(rows, parts, strict=True) if own == part]
    if not rows:
        return "No rows yet."
    command = "python benchmarks/training/pretrain.py" + " --tune" * (part == "tuning")
    return f"{rst(tables[kind](rows))}\n\n``{command}``; {rows[0]['machine']}."


def superpixels() -> str:
    """Scores of superpixels by method and number, averaged over images."""
    names = {
        "n_regions": "segments",
        "boundary_recall": "boundary recall",
        "undersegmentation_error": "undersegmentation error",
        "achievable_segmentation_accuracy": "achievable accuracy",
        "explained_variation": "explained variation",
        "compactness": "compactness",
    }
    parts = []
    for path in sorted((RESULTS / "superpixels").glob("*/results.jsonl")):
        rows, _ = read_rows(path)
        lines = [["method", *names.values(), "predict s"]]
        for row in rows:
            scores = row["views"]["partition"]["scores"]
            values = [f"{scores[name]:.3f}" for name in names]
            values[0] = f"{scores['n_regions']:.0f}"
            lines.append([f"`{row['method']}`", *values, seconds_text(row["predict_seconds"])])
        command = (path.parent / "command.txt").read_text().strip()
        parts += [rst(lines), f"``{command}``, {rows[0]['machine']['cpu']}."]
    return "\n\n".join(parts)


def adaptation() -> str:
    """Nets and forests adapted from day to dusk, from ``benchmarks/training/adaptation.py``."""
    path = RESULTS / "training" / "adaptation" / "results.jsonl"
    if not path.exists():
        return "No rows yet."
    for name in ("runs", "camvid"):  # which it imports
        script(name, "benchmarks/training")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    commands = dict.fromkeys(re.sub(r" --seeds \S+", "", row["command"]) for row in rows)
    return "\n\n".join(
        [
            rst(script("adaptation", "benchmarks/training").table(rows)),
            "; ".join(f"``{command}``" for command in commands) + f"; {rows[0]['machine']}.",
        ]
    )


# Boundaries ODS, OIS, AP; covering ODS, OIS, best. The images of the val part are those that
# BSDS300 tests on: `PUBLISHED_OF_VAL` is of tables 1 and 2 of Arbelaez 2011.
PUBLISHED_CONTOURS = {
    "gPb-owt-ucm (Arbelaez 2011), test": ("0.726", "0.760", "0.727", "0.588", "0.647", "0.744"),
    "structured edges (Dollar 2015), test": ("0.740", "0.758", "0.786", "", "", ""),
    "MCG (Pont-Tuset 2017), test": ("0.747", "0.779", "0.759", "", "", ""),
}
PUBLISHED_OF_VAL = {
    "gPb-owt-ucm (Arbelaez 2011), BSDS300": ("0.71", "0.74", "0.73", "0.59", "0.65", "0.75"),
}


def contours() -> str:
    """Scores of contours, and of the hierarchies made from them."""
    lines = [
        ["contours", "scored", "ODS", "OIS", "AP", "covering ODS", "OIS", "best", "s an image"]
    ]
    path = RESULTS / "contours" / "bsds500" / "results.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
        name = f"`{row['contours']}`"
        thin = [f"{row['boundaries_of_contours'][k]:.3f}" for k in ("ods", "ois", "ap")]
        lines.append([name, "thinned", *thin, "", "", "", f"{row['seconds_contours']:.2f}"])
        found = [f"{row['boundaries_of_regions'][k]:.3f}" for k in ("ods", "ois", "ap")]
        found += [f"{row['regions'][f'covering_{k}']:.3f}" for k in ("ods", "ois", "best")]
        lines.append([name, "hierarchy", *found, f"{row['seconds_whole']:.2f}"])
    for name, values in (PUBLISHED_OF_VAL | PUBLISHED_CONTOURS).items():
        lines.append([name, "published", *values, ""])
    return rst(lines)


# Of the test part, after tables 1 and 2 of Arbelaez 2011, as PUBLISHED_CONTOURS.
PUBLISHED_REGIONS = {
    "felzenszwalb": (0.61, 0.64, 0.56, 0.52, 0.57, 0.69),
    "mean_shift": (0.64, 0.68, 0.56, 0.54, 0.58, 0.66),
    "pixel_cuts": (0.64, 0.68, 0.45, 0.45, 0.53, 0.67),
}


def region_methods() -> str:
    """Scores of methods that find regions, each above what is published of it."""
    lines = [
        ["method", "levels", "ODS", "OIS", "AP", "covering ODS", "OIS", "best", "CPU s an image"]
    ]
    path = RESULTS / "contours" / "bsds500" / "regions.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
        name = f"`{row['method']}`"
        values = row["values"]
        found = [f"{row['boundaries'][k]:.3f}" for k in ("ods", "ois", "ap")]
        found += [f"{row['regions'][f'covering_{k}']:.3f}" for k in ("ods", "ois", "best")]
        levels = f"{len(values)}, `{row['setting']}` {values[0]:g} to {values[-1]:g}"
        lines.append([name, levels, *found, f"{row['cpu_seconds']:.2f}"])
        if published := PUBLISHED_REGIONS.get(row["method"]):
            numbers = [f"{value:.2f}" for value in published]
            lines.append([f"{name}, test", "published (Arbelaez 2011)", *numbers, ""])
    return rst(lines)


def findings() -> str:
    """What `segalgos data check` looks for."""
    lines = [["how bad", "what", "what to do"]]
    lines += [[kind.severity, name, kind.remedy] for name, kind in KINDS.items()]
    return markdown(lines)


def near_duplicates() -> str:
    """How many copies a perceptual hash finds, and how many other images it takes for some."""
    path = RESULTS / "data_sets" / "near_duplicates" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [["copies", "images", "found"]]
    for row in (r for r in rows if r["kind"] == "copies"):
        share = f"{100 * row['found'] / row['images']:.1f} %"
        lines.append([row["key"], str(row["images"]), share])
    text = [markdown(lines)]
    for row in (r for r in rows if r["kind"] == "others"):
        text.append(
            f"Of {row['pairs']:,} pairs of different images ({row['key']}), {row['found']} were "
            f"taken for copies; the nearest pair differs in {row['nearest'][0]} bits."
        )
    for row in (r for r in rows if r["kind"] == "time"):
        text.append(
            f"Comparing all pairs of {row['key']}, in eight turned and mirrored forms each, takes "
            f"{row['cpu_seconds']:.1f} s of a core; threads share them."
        )
    return "\n\n".join(text)


def round_trips() -> str:
    """What label formats lose there and back, for each set."""
    path = RESULTS / "data_sets" / "round_trips" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = []
    for name, title in ROUND_TRIPS.items():
        own = {(r["first"], r["second"]): r for r in rows if r["set"] == name}
        firsts = list(dict.fromkeys(first for first, _ in own))
        seconds = [second for second in FORMATS_WRITTEN if any(s == second for _, s in own)]
        lines = [["from, and back", *(f"`{second}`" for second in seconds)]]
        for first in firsts:
            cells = [_trip(own.get((first, second))) for second in seconds]
            lines.append([f"`{first}`", *(c if s != first else "" for c, s in zip(cells, seconds))])
        most = max(r["objects"] for r in own.values())
        images = next(iter(own.values()))["images"]
        untold = sum(sum(r["untold"].values()) for r in own.values())
        text.append(
            f"**{title}**, {images} images, {most} objects, {len(own)} round trips; differences "
            f"that no report told: {untold}."
        )
        text.append(markdown(lines))
    return "\n\n".join(text)


ROUND_TRIPS = {"generated": "Generated scenes", "coco128": "COCO128", "dsb2018": "DSB2018"}
FORMATS_WRITTEN = (
    *("coco", "voc", "yolo", "labelme", "pennfudan", "cityscapes", "label_maps"),
    *("roboflow_coco", "roboflow_yolo"),
)
_SHORT = {"objects left out": "objects", "crowd flags": "crowds", "void pixels": "void"}


def _trip(row: dict | None) -> str:
    """What one round trip changes."""
    if row is None:
        return "not run"
    words = [
        f"{_SHORT.get(what, what)} {count}"
        for what, count in row["differences"].items()
        if what != "list of classes"
    ]
    return ", ".join(words) or "exact"


def outputs() -> dict[Path, str]:
    """Every generated file and its content."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = {
        "methods": markdown(methods_table()),
        "results": measured(markdown, lambda title: f"**{title}**"),
    }
    for name, text in blocks.items():
        pattern = rf"(<!-- {name}: .*?-->\n).*?(<!-- end -->)"
        readme = re.sub(pattern, lambda m, t=text: f"{m[1]}\n{t}\n\n{m[2]}", readme, flags=re.S)
    results = measured(rst, lambda title: f"{title}\n{'-' * len(title)}").replace("`", "``")
    results = results.replace("````", "``")
    return {
        ROOT / "README.md": readme,
        ROOT / "docs" / "_generated" / "methods.rst": rst(methods_table()) + "\n",
        ROOT / "docs" / "_generated" / "results.rst": results + "\n",
        ROOT / "docs" / "_generated" / "scribbles.rst": scribbles() + "\n",
        ROOT / "docs" / "_generated" / "interactive.rst": interactive() + "\n",
        ROOT / "docs" / "_generated" / "active_learning.rst": active_learning() + "\n",
        ROOT / "docs" / "_generated" / "superpixels.rst": superpixels() + "\n",
        ROOT / "docs" / "_generated" / "challenges.rst": challenges() + "\n",
        ROOT / "docs" / "_generated" / "pins.rst": pins() + "\n",
        ROOT / "docs" / "_generated" / "inspections.rst": inspections() + "\n",
        ROOT / "docs" / "_generated" / "camvid.rst": training("camvid", CAMVID) + "\n",
        ROOT / "docs" / "_generated" / "nuclei.rst": training("nuclei", NUCLEI) + "\n",
        ROOT / "docs" / "_generated" / "coco128.rst": training("coco128", COCO128) + "\n",
        ROOT / "docs" / "_generated" / "precision.rst": precision() + "\n",
        ROOT / "docs" / "_generated" / "pretraining.rst": pretraining("val") + "\n",
        ROOT / "docs" / "_generated" / "pretraining_probes.rst": pretraining("probes") + "\n",
        ROOT / "docs" / "_generated" / "pretraining_tuning.rst": pretraining("tuning") + "\n",
        ROOT / "docs" / "_generated" / "pretraining_street.rst": pretraining("street") + "\n",
        ROOT / "docs" / "_generated" / "adaptation.rst": adaptation() + "\n",
        ROOT / "docs" / "_generated" / "contours.rst": contours() + "\n",
        ROOT / "docs" / "_generated" / "region_methods.rst": region_methods() + "\n",
        ROOT / "docs" / "_generated" / "peers.rst": peers() + "\n",
        ROOT / "docs" / "_generated" / "findings.md": findings() + "\n",
        ROOT / "docs" / "_generated" / "near_duplicates.md": near_duplicates() + "\n",
        ROOT / "docs" / "_generated" / "round_trips.md": round_trips() + "\n",
        ROOT / "docs" / "_generated" / "cityscapes.rst": (
            rst(cityscapes.result_rows(cityscapes.published())) + "\n"
        ),
    }


def main() -> int:
    """Write the files, or with ``--check`` say which are out of date."""
    check, stale = "--check" in sys.argv[1:], 0
    for path, text in outputs().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{path.relative_to(ROOT)} {'is out of date' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
