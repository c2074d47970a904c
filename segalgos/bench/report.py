"""Write the report: one folder that opens offline in a browser, and the same answers as text.

All text from rows is untrusted. The template escapes everything, and the page's content security
policy allows its own style, script and pictures and nothing else.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from segalgos.bench import report_words as words
from segalgos.bench.challenge_curves import SECONDS, Result, build_results, point_lines
from segalgos.bench.challenges import CHALLENGES
from segalgos.bench.report_lines import lay_out_lines, style
from segalgos.bench.report_pictures import hides_first, write_pictures
from segalgos.bench.report_scatter import Point, lay_out
from segalgos.bench.statistics import (
    FAST_SECONDS,
    N_RESAMPLES,
    Answer,
    Standing,
    Table,
    answers,
    as_array,
    build_tables,
    failed_cells,
    group_cells,
    image_scores,
)
from segalgos.bench.store import read_rows
from segalgos.plot import label_colors

__all__ = ["summary_lines", "write_report"]

FORMAT = 1  # of rows
N_WORST = 3  # images shown for each method

_QUESTIONS = {
    "accurate": "most accurate",
    "fast": f"best under {FAST_SECONDS:g} s an image",
    "untrained": "best without training",
}
_NUMBERS = (
    "year",
    "budget",
    "fit_seconds",
    "first_predict_seconds",
    "predict_seconds",
    "peak_memory_mb",
    "n_parameters",
    "n_fit_images",
    "n_images",
    "seconds",
)
_FAMILIES = ("clustering", "graph", "contours", "pixels", "nets", "instances")


def write_report(out_dir: str | os.PathLike) -> Path:
    """Write the report of a benchmark.

    Parameters
    ----------
    out_dir : path-like
        The benchmark's folder, with ``results.jsonl``, ``samples/`` and ``predictions/``.

    Returns
    -------
    Path
        ``report/index.html`` in it; ``results.csv`` and ``images.csv`` are beside that, and
        ``challenges.csv`` if there were any.

    Raises
    ------
    FileNotFoundError
        If there is no ``results.jsonl``.
    ValueError
        If it holds no row.

    Notes
    -----
    The report is made in a folder beside the old one and then takes its place, so a reader finds
    the old or the new one whole.
    """
    out_dir = Path(out_dir)
    path = out_dir / "results.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"write_report: {path} does not exist: run segalgos bench first, or name its folder."
        )
    read, n_bad = read_rows(path)
    rows = [row for row in read if _is_whole(row)]
    n_bad += len(read) - len(rows)
    if not rows:
        raise ValueError(
            f"write_report: {path} holds no result ({n_bad} unreadable lines): run segalgos bench "
            "first."
        )
    plain = [row for row in rows if not _is_step(row)]
    with _replacing(out_dir / "report") as folder:
        cells = group_cells(plain)
        tables = build_tables(plain)
        results = build_results(rows)
        steps = group_cells(row for row in rows if _is_step(row))
        views = {label: _view_of(own[0], results) for label, own in steps.items()}
        pictures = write_pictures(out_dir, folder, {**cells, **steps}, only=views)
        _write_csv(folder / "results.csv", _result_lines({**cells, **steps}))
        _write_csv(folder / "images.csv", _image_lines({**cells, **steps}))
        if results:
            _write_csv(folder / "challenges.csv", point_lines(results))
        shown = {**cells, **{f"{r.label}, {r.challenge.name}": r.rows for r in results}}
        page = _render(
            {
                "questions": _QUESTIONS,
                "answers": _answer_groups(tables),
                "datasets": [
                    _dataset_section(label, own, tables, pictures[label])
                    for label, own in cells.items()
                ],
                "challenges": [
                    _challenge_section(f"challenge-{i}", result, pictures)
                    for i, result in enumerate(results)
                ],
                "failed": failed_cells(plain) + failed_cells(filter(_is_step, rows)),
                "run": _run_facts(shown, n_bad),
                "words": _used_words(tables, results),
                "families": _FAMILIES,
                "n_resamples": N_RESAMPLES,
                "fast_seconds": FAST_SECONDS,
            }
        )
        (folder / "index.html").write_text(page, encoding="utf-8", newline="\n")
    return out_dir / "report" / "index.html"


def summary_lines(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Say in plain text what the report opens with.

    Parameters
    ----------
    rows : iterable of dict

    Returns
    -------
    list of (data set, view, text)
        Three lines for each view of each data set; one for each challenge.
    """
    rows = [row for row in rows if _is_whole(row)]
    lines = [
        (table.dataset, table.view, f"{_QUESTIONS[answer.question]}: {_in_words(table, answer)}")
        for table in build_tables(row for row in rows if not _is_step(row))
        for answer in answers(table)
    ]
    for result in build_results(rows):
        lines.append((result.label, result.challenge.name, _challenge_in_words(result)))
    return lines


def _challenge_in_words(result: Result) -> str:
    ends = [result.difficulties[place][1] for place in (0, -1)]
    what = words.explain(words.SCORES, result.headline).title
    say = words.duration if result.headline == SECONDS else words.number
    methods = []
    for curve in result.curves:
        values = [curve.at(place) for place in (0, len(result.difficulties) - 1)]
        first, last = (say(point.value if point else None) for point in values)
        bound = " (upper bound)" if curve.upper_bound else ""
        methods.append(f"{curve.method}{bound} {first} to {last}")
    return f"{what} from {ends[0]} to {ends[1]}: {'; '.join(methods) or 'every run failed'}"


def _in_words(table: Table, answer: Answer) -> str:
    best = answer.best
    if best is None:
        return _why_nobody(answer)
    text = f"{best.method}, {table.headline} {words.number(best.score)}"
    if best.interval:
        text += f" ({words.interval(best.interval)})"
    text += f", {words.duration(best.predict_seconds)} an image"
    text += f", {words.megabytes(best.peak_memory_mb)}"
    if best.upper_bound:
        text += "; an upper bound"
    if answer.tied:
        text += f"; tied with {', '.join(answer.tied)}"
    return text


def _why_nobody(answer: Answer) -> str:
    reason = {
        "accurate": "no method has a score",
        "fast": "no method is as fast",
        "untrained": "every method learned from labels",
    }[answer.question]
    if answer.upper_bound is None:
        return reason
    bound = answer.upper_bound
    return f"none; as an upper bound, {bound.method} reaches {words.number(bound.score)}"


# --- reading -----------------------------------------------------------------------------


def _is_whole(row: dict[str, Any]) -> bool:
    """Say whether a row holds all that the report reads, in the types it expects."""
    try:
        _check_row(row)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _is_step(row: dict[str, Any]) -> bool:
    """Say whether a row is of a challenge."""
    return row.get("challenge") is not None


def _check_row(row):
    if row["format"] != FORMAT or not isinstance(row["seed"], int):
        raise ValueError("of another format")
    for name in ("method", "dataset", "status"):
        if not isinstance(row[name], str):
            raise TypeError(name)
    for name in _NUMBERS:
        if not (row.get(name) is None or isinstance(row[name], Real)):
            raise TypeError(name)
    if _is_step(row):
        if row["challenge"] not in CHALLENGES or not math.isfinite(row["difficulty"]):
            raise ValueError("challenge")
        if CHALLENGES[row["challenge"]].is_log and row["difficulty"] <= 0:
            raise ValueError("difficulty")
        for name in ("challenge_data", "difficulty_text"):
            if not isinstance(row[name], str):
                raise TypeError(name)
    for name in ("versions", "machine", "params", "options"):
        if not isinstance(row.get(name) or {}, dict):
            raise TypeError(name)
    if row["status"] != "ok":
        return
    n_images, n_classes = len(row["image_names"]), len(row.get("classes") or ())
    if n_images == 0 or not all(isinstance(name, str) for name in row["image_names"]):
        raise ValueError("image_names")
    for view in row["views"].values():
        if view["headline"] not in view["scores"] or image_scores(view)[1].shape != (n_images,):
            raise ValueError("the headline score is missing")
        for name, value in view["scores"].items():
            if as_array(value).ndim > 1:
                raise ValueError(name)
            if name.endswith("_per_class") and n_classes and as_array(value).shape != (n_classes,):
                raise ValueError(name)
        for name, values in view["images"].items():
            shape = as_array(values).shape
            if shape[0] != n_images or (name == "counts" and (len(shape) != 3 or 3 not in shape)):
                raise ValueError(name)


# --- writing -----------------------------------------------------------------------------


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Make a folder beside `folder`, and let it take its place when all went well."""
    prefix = f".{folder.name}-"
    for leftover in folder.parent.glob(f"{prefix}*"):  # of a report that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    name = secrets.token_hex(4)
    new, old = folder.with_name(f"{prefix}new-{name}"), folder.with_name(f"{prefix}old-{name}")
    new.mkdir()
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_csv(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    lines = list(lines)
    columns = dict.fromkeys(name for line in lines for name in line)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({name: _csv_cell(v) for name, v in line.items()} for line in lines)


def _csv_cell(value: Any) -> Any:
    """Keep a spreadsheet from taking text for a formula; leave numbers alone."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def _result_lines(cells):
    """One line a cell: who, how it ended, what it took, and every score as view.score."""
    names = (
        *("split", "method", "segmenter", "family", "task", "year", "trained", "seed", "status"),
        *("reason", "fit_seconds", "first_predict_seconds", "predict_seconds", "peak_memory_mb"),
        *("n_parameters", "n_fit_images", "n_images", "seconds", "started"),
    )
    for dataset, own in cells.items():
        for cell in own:
            line = {"dataset": dataset, **{name: cell.get(name) for name in names}}
            if _is_step(cell):
                line |= {name: cell[name] for name in ("challenge", "difficulty")}
            for view, content in _views(cell):
                for name, value in content["scores"].items():
                    if as_array(value).ndim == 0:
                        line[f"{view}.{name}"] = value
                    elif name.endswith("_per_class"):
                        for class_name, number in zip(cell.get("classes") or (), value):
                            line[f"{view}.{name}.{class_name}"] = number
            yield line


def _image_lines(cells):
    """One line for each cell, image and score."""
    for dataset, own in cells.items():
        for cell in own:
            who = {"dataset": dataset, "method": cell["method"], "seed": cell["seed"]}
            for view, content in _views(cell):
                for score, values in content["images"].items():
                    if as_array(values).ndim == 1:
                        for image, value in zip(cell["image_names"], values):
                            what = {"view": view, "image": image, "score": score}
                            yield {**who, **what, "value": value}


def _views(cell):
    return cell["views"].items() if cell["status"] == "ok" else ()


def _render(context: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = resources.files("segalgos.bench")
    style, script, template = (
        here.joinpath(name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html.j2")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": words.number,
        "interval": words.interval,
        "duration": words.duration,
        "megabytes": words.megabytes,
        "count": words.count,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),  # escapes the parts
    }
    policy = (
        f"default-src 'none'; img-src 'self'; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    # Ours, not from rows: the only text that is not escaped.
    ours = {"policy": policy, "style": Markup(style), "script": Markup(script)}
    return environment.from_string(template).render({**context, **ours})


def _hash(text: str) -> str:
    """Name an inline block in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- what the page shows -----------------------------------------------------------------


def _answer_groups(tables):
    """Answers by data set: [(data set, [(table, its section's id, note, answers)])]."""
    groups = defaultdict(list)
    for i, table in enumerate(tables):
        groups[table.dataset].append(
            {
                "id": f"view-{i}",
                "title": words.explain(words.VIEWS, table.view).title,
                "score": words.explain(words.SCORES, table.headline).title,
                "answers": [
                    {"answer": answer, "nobody": "" if answer.best else _why_nobody(answer)}
                    for answer in answers(table)
                ],
            }
        )
    return dict(groups)


def _dataset_section(label, cells, tables, samples):
    done = [cell for cell in cells if cell["status"] == "ok"]
    example = (done or cells)[0]
    return {
        "label": label,
        "n_images": len(example["image_names"]) if done else example.get("n_images"),
        "split": example.get("split"),
        "views": [
            _view_section(f"view-{i}", table, samples)
            for i, table in enumerate(tables)
            if table.dataset == label
        ],
    }


def _view_of(row, results):
    """The view in which a row of a challenge is shown."""
    views = (r.view for r in results if any(own["key"] == row["key"] for own in r.rows))
    return next(views, CHALLENGES[row["challenge"]].view)


def _challenge_section(name, result, pictures):
    is_time = result.headline == SECONDS
    text = words.duration if is_time else words.number
    view = words.explain(words.VIEWS, result.view)
    notes = [note for note in dict.fromkeys(curve.note for curve in result.curves) if note]
    places = range(len(result.difficulties))
    example = next((row for row in result.rows if row["status"] == "ok"), result.rows[0])
    return {
        "id": name,
        "result": result,
        "is_time": is_time,
        "text": text,
        "n_images": example.get("n_images"),
        "view": view,
        "notes": [(note, words.NOTES.get(note, "")) for note in notes],
        "headline": words.explain(words.SCORES, result.headline),
        "charts": [lay_out_lines(result, size) for size in ("wide", "narrow")],
        "lines": [
            (curve, style(result, curve.method), [curve.at(place) for place in places])
            for curve in result.curves
        ],
        "gallery": _challenge_gallery(result, pictures),
    }


def _challenge_gallery(result, pictures):
    """Methods, and for each difficulty its first image, its truth and what they made of it."""
    labels = {
        difficulty: min(
            (row["seed"], row["dataset"]) for row in result.rows if row["difficulty"] == difficulty
        )[1]
        for difficulty, _ in result.difficulties
    }
    columns = []
    for difficulty, text in result.difficulties:
        label = labels[difficulty]
        # A label may have settings behind it, where these vary.
        found = (own for key, own in pictures.items() if f"{key} (".startswith(f"{label} ("))
        samples = next(filter(None, found), [])
        if samples:
            columns.append((text, samples[0], samples[0].truths.get(result.view)))
    methods = [
        curve.method
        for curve in result.curves
        if any((curve.method, result.view) in sample.predictions for _, sample, _ in columns)
    ]
    return {"methods": methods, "columns": columns}


def _view_section(name, table, samples):
    view = words.explain(words.VIEWS, table.view)
    standings = table.standings
    notes = [note for note in dict.fromkeys(s.note for s in standings) if note]
    low, high = _bar_range(standings)
    known = dict.fromkeys(name for s in standings for name in s.scores if name != table.headline)
    order = list(words.SCORES)
    others = sorted(known, key=lambda n: order.index(n) if n in order else len(order))
    has_classes = table.classes and any("iou_per_class" in s.score_lists for s in standings)
    return {
        "id": name,
        "table": table,
        "title": view.title,
        "meaning": view.meaning,
        "notes": [(note, words.NOTES.get(note, "")) for note in notes],
        "headline": words.explain(words.SCORES, table.headline),
        "others": [(score, words.explain(words.SCORES, score)) for score in others],
        "bars": {"low": low, "high": high, "of": {s.method: _bar(s, low, high) for s in standings}},
        "charts": [_chart(standings, 760, 420), _chart(standings, 360, 400)],
        "heat": _heat(table) if has_classes else None,
        "legend": _legend(table.classes) if table.view == "semantic" else [],
        "gallery": _gallery(table, samples),
        "marks": _marks(table, samples),
        "worst": _worst(table, samples),
    }


def _bar_range(standings):
    """Bounds of the bars of intervals: the data's, widened to whole tenths."""
    values = [v for s in standings for v in (s.score, *(s.interval or ())) if not math.isnan(v)]
    low = math.floor(min(values, default=0) * 10 + 1e-9) / 10
    high = math.ceil(max(values, default=1) * 10 - 1e-9) / 10
    return low, max(high, low + 0.1)


def _bar(standing: Standing, low: float, high: float) -> dict[str, float] | None:
    """Place a score and its interval on a scale from 0 to 100."""
    if math.isnan(standing.score):
        return None
    bounds = standing.interval or (standing.score, standing.score)
    left, right, dot = (100 * (v - low) / (high - low) for v in (*bounds, standing.score))
    return {"left": left, "width": right - left, "dot": dot}


def _chart(standings, width, height):
    points = [
        Point(s.method, s.predict_seconds, s.score, s.interval, _family(s), s.upper_bound)
        for s in standings
        if s.predict_seconds and not math.isnan(s.score)
    ]
    return lay_out(points, width, height, FAST_SECONDS)


def _family(standing):
    """A name that is safe as part of a CSS class."""
    return standing.family if standing.family in _FAMILIES else "other"


def _heat(table):
    """IoU of each class: [(standing, [(value, step of the colour scale)])]."""
    rows = []
    for standing in table.standings:
        values = standing.score_lists.get("iou_per_class", np.full(len(table.classes), np.nan))
        steps = [None if math.isnan(v) else min(int(v * 10), 9) for v in values]
        rows.append((standing, list(zip(values.tolist(), steps))))
    return rows


def _legend(classes):
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in label_colors(len(classes))]
    return list(zip(classes, colors))[1 if hides_first(classes) else 0 :]


def _gallery(table, samples):
    """Methods that have pictures, and lines of (sample, truth, [(picture, score)])."""
    view = table.view
    shown = [s for s in table.standings if any((s.method, view) in p.predictions for p in samples)]
    lines = []
    for sample in samples:
        place = _place(table, sample)
        cells = [
            (
                sample.predictions.get((s.method, view)),
                None if place is None else s.image_scores[place],
            )
            for s in shown
        ]
        if sample.truths.get(view) or any(picture for picture, _ in cells):
            lines.append((sample, sample.truths.get(view), cells))
    return {"methods": shown, "lines": lines}


def _marks(table, samples):
    """Explain what the pictures of a view show besides colours."""
    shown = {
        mark
        for sample in samples
        for standing in table.standings
        if (picture := sample.predictions.get((standing.method, table.view)))
        for mark in picture.shows
    }
    return [meaning for mark, meaning in words.MARKS.items() if mark in shown]


def _place(table, sample):
    names = table.image_names
    return names.index(sample.name) if sample.name in names else None


def _worst(table, samples):
    """The images with the lowest scores of each method: [(standing, [(name, score, picture)])]."""
    kept = {sample.name: sample for sample in samples}
    result = []
    for standing in table.standings:
        defined = np.flatnonzero(~np.isnan(standing.image_scores))
        order = defined[np.argsort(standing.image_scores[defined], kind="stable")]
        images = []
        for i in order[:N_WORST]:
            name = table.image_names[i]
            predictions = kept[name].predictions if name in kept else {}
            picture = predictions.get((standing.method, table.view))
            images.append((name, float(standing.image_scores[i]), picture))
        if images:
            result.append((standing, images))
    return result


def _used_words(tables, results):
    shown = [*tables, *(result for result in results if result.headline != SECONDS)]
    views = dict.fromkeys(item.view for item in shown)
    scores = dict.fromkeys(name for table in tables for s in table.standings for name in s.scores)
    scores |= dict.fromkeys(item.headline for item in shown)
    order = [name for name in words.SCORES if name in scores]
    return {
        "views": [words.explain(words.VIEWS, view) for view in views],
        "scores": [(name, words.SCORES[name]) for name in order],
    }


def _run_facts(cells, n_bad):
    """How the benchmark was run, as far as the rows tell."""
    rows = [cell for own in cells.values() for cell in own]
    versions = defaultdict(set)
    for row in rows:
        for name, version in (row.get("versions") or {}).items():
            versions[str(name)].add(str(version))
    started = sorted(str(row["started"]) for row in rows if row.get("started"))
    return {
        "n_cells": len(rows),
        "n_failed": sum(row["status"] != "ok" for row in rows),
        "n_bad": n_bad,
        "n_methods": len({row["method"] for row in rows}),
        "n_datasets": len({row.get("challenge_data") or label for label, row in _labelled(cells)}),
        "seconds": sum(row.get("seconds") or 0 for row in rows),
        "started": (started[0], started[-1]) if started else None,
        "machines": sorted({_machine(row["machine"]) for row in rows if row.get("machine")}),
        "versions": [(name, ", ".join(sorted(versions[name]))) for name in sorted(versions)],
        "datasets": [_dataset_facts(label, own) for label, own in cells.items()],
        "params": _params(cells),
    }


def _labelled(cells):
    return [(label, row) for label, own in cells.items() for row in own]


def _machine(machine):
    text = f"{machine.get('cpu')}, {machine.get('cores')} cores"
    if machine.get("memory_gb"):
        text += f", {machine['memory_gb']} GB of memory"
    return f"{text}, {machine.get('system')}"


def _dataset_facts(label, cells):
    def most(name):
        return max((cell[name] for cell in cells if cell.get(name) is not None), default=None)

    return {
        "label": label,
        "split": cells[0].get("split"),
        "fit_split": cells[0].get("fit_split"),
        "n_images": most("n_images"),
        "n_fit_images": most("n_fit_images"),
        "n_classes": max(len(cell.get("classes") or ()) for cell in cells),
        "options": _options_text(cells),
        "budget": cells[0].get("budget"),
        "seeds": ", ".join(str(seed) for seed in sorted({cell["seed"] for cell in cells})),
    }


def _options_text(cells):
    """Options of a data set; of a challenge all values that each one took."""
    if not _is_step(cells[0]):
        return json.dumps(cells[0].get("options") or {}, ensure_ascii=False)
    values = defaultdict(list)
    for cell in cells:
        for name, value in (cell.get("options") or {}).items():
            if value not in values[name]:
                values[name].append(value)
    shown = {name: own if len(own) > 1 else own[0] for name, own in values.items()}
    return json.dumps(shown, ensure_ascii=False)


def _params(cells):
    """Parameters of each method on each data set, of its lowest seed."""
    lines = []
    for label, own in cells.items():
        first = {}
        for cell in sorted(own, key=lambda c: (c["method"], c["status"] != "ok", c["seed"])):
            first.setdefault(cell["method"], cell)
        for method, cell in first.items():
            tuned = cell.get("tuned") or {}
            lines.append(
                {
                    "dataset": label,
                    "method": method,
                    "params": json.dumps(cell.get("params") or {}, ensure_ascii=False),
                    "tuned": json.dumps(tuned, ensure_ascii=False) if tuned else "",
                }
            )
    return lines
