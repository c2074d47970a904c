"""Step 7: the inspection report: which pin is bent or missing.

    python step7_inspect.py --method "forest, 240 strokes"
    open pins-study/inspection/index.html

Takes the objects that an earlier step found, looks at the shape of each pin, and compares the pins
with the rows that they should stand in. Writes a page with a picture of each board, which opens
without a network, and a table (``inspection.csv``) for other programs.
"""

import csv
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from geometry import BENT, MISSING, STATES, UP, Site, inspect, measure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from study import add_row, arguments, kept, open_data, share, true_objects

from segalgos import Instances, datasets
from segalgos.files import atomic_path

COLOURS = {UP: (0, 158, 115), BENT: (230, 159, 0), MISSING: (213, 94, 0)}
ENLARGED = 3
NEAR = 9.0  # pixels between a site and the object that it is compared with


def look(found: Instances) -> list[Site]:
    """Inspect the objects of one picture; what a method calls an empty hole is one."""
    holes = found.classes == MISSING
    return inspect(list(found.masks[~holes]), list(found.masks[holes]))


def draw(sample: datasets.Sample, sites: Sequence[Site]) -> Image.Image:
    """The picture, with a ring at each place and a number at each defect."""
    height, width = sample.image.shape[:2]
    picture = Image.fromarray(sample.image).convert("RGB")
    picture = picture.resize((ENLARGED * width, ENLARGED * height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for number, site in numbered(sites):
        row, col = (ENLARGED * (float(v) + 0.5) for v in site.at)
        reach = 6 if site.state == UP else 12
        box = (col - reach, row - reach, col + reach, row + reach)
        pen.ellipse(box, outline=COLOURS[site.state], width=3)
        if number:
            pen.text(
                (col + reach + 2, row - 7), str(number), fill="white", stroke_width=2,
                stroke_fill="black", font_size=18,
            )  # fmt: skip
    return picture


def numbered(sites: Sequence[Site]) -> list[tuple[int, Site]]:
    """Sites with the numbers of the defects, 0 for a pin that is up."""
    number, result = 0, []
    for site in sites:
        number += site.state != UP
        result.append((number if site.state != UP else 0, site))
    return result


def write_page(folder: Path, boards: Sequence[tuple[datasets.Sample, list[Site]]]) -> None:
    """Write pictures, ``index.html`` and ``inspection.csv``."""
    parts = []
    with atomic_path(folder / "inspection.csv") as path, open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["picture", "row", "place", "state", "y", "x", "reason"])
        for i, (sample, sites) in enumerate(boards):
            with atomic_path(folder / f"board-{i:03}.png") as picture:
                draw(sample, sites).save(picture, "PNG")
            lines = []
            for number, site in numbered(sites):
                state = STATES[site.state]
                place = (f"{site.at[0]:.0f}", f"{site.at[1]:.0f}")
                table.writerow([sample.name, site.row, site.place, state, *place, site.reason])
                if number:
                    cells = (number, state, f"row {site.row}, pin {site.place}", site.reason)
                    cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
                    lines.append(f"<tr>{cells}</tr>")
            verdict = f"{len(lines)} of {len(sites)} pins bent or missing" if lines else "all up"
            name = html.escape(sample.name)
            parts.append(
                f"<section><h2>{name}: {verdict}</h2><div><img src='board-{i:03}.png' "
                f"alt='{name}, {verdict}'><table>{''.join(lines)}</table></div></section>"
            )
    with atomic_path(folder / "index.html") as path:
        path.write_text(PAGE.format("\n".join(parts)), encoding="utf-8")


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Inspection of pins</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ margin: 0 auto; padding: 1.5rem; max-width: 1250px; font: 16px/1.45 system-ui, sans-serif;
  color: #1c1e21; background: #fcfcfb; }}
h2 {{ margin: 2.2rem 0 .6rem; font-size: 1.1rem; }}
section div {{ display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }}
img {{ width: 640px; max-width: 100%; height: auto; border-radius: 4px; }}
table {{ border-collapse: collapse; font-size: .875rem; }}
td {{ padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e1e2e4; vertical-align: top; }}
td:first-child {{ font-weight: 600; }}
.up {{ color: #007a5a; }} .bent {{ color: #9a6700; }} .missing {{ color: #b34700; }}
</style></head><body>
<h1>Which pin is bent or missing?</h1>
<p>Rings: <b class="up">green</b> up, <b class="bent">orange, numbered</b> bent,
<b class="missing">red, numbered</b> missing. Pins are counted from the left, rows from the top.</p>
{}
</body></html>
"""


def place_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where the site of an object is: the base of a pin, and of a hole as good as its middle."""
    pin = measure(mask)
    return np.argwhere(mask).mean(axis=0) if pin is None else pin.base


def compare(boards: Sequence[tuple[list[Site], Instances]]) -> dict[str, float | int | None]:
    """Count the defects that were reported, of those that are there by their annotated class."""
    n_true = n_reported = n_hit = 0
    for sites, truth in boards:
        defects = [place_of(mask) for mask in truth.masks[truth.classes != UP]]
        free = [site.at for site in sites if site.state != UP]
        n_true, n_reported = n_true + len(defects), n_reported + len(free)
        for place in defects:
            distances = [float(np.hypot(*(at - place))) for at in free]
            if distances and min(distances) < NEAR:
                free.pop(int(np.argmin(distances)))
                n_hit += 1
    return {
        "n_defects": n_true,
        "n_reported": n_reported,
        "defect_recall": share(n_hit, n_true),
        "defect_precision": share(n_hit, n_reported),
    }


def main() -> None:
    """Write the report of one method, and score it."""
    options = arguments(__doc__, method="forest, 240 strokes")
    test = open_data(options.data, "test")
    samples = [test[i] for i in range(len(test))]
    found = kept(options.out / "objects" / f"{options.method}.npz", len(samples))
    boards = [look(objects) for objects in found]
    folder = options.out / "inspection"
    write_page(folder, list(zip(samples, boards, strict=True)))
    truths = [true_objects(sample) for sample in samples]
    scores = compare(list(zip(boards, truths, strict=True)))
    row = {"method": options.method, "data": options.data or "pins", "seed": options.seed}
    add_row(options.out / "inspections.jsonl", {**row, **scores})
    print(f"{folder / 'index.html'}: {scores}")


if __name__ == "__main__":
    main()
