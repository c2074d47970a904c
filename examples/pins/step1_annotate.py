"""Step 1: from unlabelled pictures to labels, and what they cost.

    python step1_annotate.py

Your own photographs: ``segalgos annotate PHOTOS --out my_pins``, with the classes background, up,
bent and missing; then give every later step ``--data my_pins``. Here a simulated annotator draws
strokes over the built-in pictures, whose truth nobody else sees.
"""

import numpy as np
from study import SECONDS_OUTLINE, SECONDS_STROKE, arguments, open_data, true_objects

from segalgos.bench.scribbler import draw_scribbles_on
from segalgos.files import write_image, write_labels

VOID = 255


def main() -> None:
    """Write a folder of images and strokes, and say what strokes and outlines would cost."""
    options = arguments(__doc__, strokes=240, images=12)
    train = open_data(options.data, "train")
    places = np.linspace(0, len(train) - 1, min(options.images, len(train))).round().astype(int)
    samples = [train[int(i)] for i in places]
    labels = [sample.labels for sample in samples]
    drawn = draw_scribbles_on(labels, options.strokes, random_state=options.seed)
    folder = options.out / "strokes" / "train"
    for earlier in folder.glob("*/*.png"):
        earlier.unlink()
    for sample, strokes in zip(samples, drawn, strict=True):
        write_image(folder / "images" / f"{sample.name}.png", sample.image)
        write_labels(folder / "masks" / f"{sample.name}.png", np.where(strokes < 0, VOID, strokes))
    (options.out / "strokes" / "classes.txt").write_text("background\nup\nbent\nmissing\n")
    n_objects = sum(len(true_objects(sample)) for sample in samples)
    print(f"{len(samples)} pictures, {options.strokes} strokes: {folder}")
    print(f"strokes:  {options.strokes * SECONDS_STROKE / 60:.0f} minutes of a person")
    print(f"outlines: {n_objects * SECONDS_OUTLINE / 60:.0f} minutes for all {n_objects} objects")


if __name__ == "__main__":
    main()
