"""Step 3: a random forest that learns from the strokes of step 1.

python step3_forest.py
"""

import numpy as np
from study import SECONDS_STROKE, arguments, cpu_seconds, measure, to_objects

from segalgos import RandomForestSegmenter, datasets


def main() -> None:
    """Learn from strokes, and score."""
    options = arguments(__doc__, strokes=240)
    strokes = datasets.load("folder", root=options.data or options.out / "strokes", split="train")
    samples = [strokes[i] for i in range(len(strokes))]
    started = cpu_seconds()
    forest = RandomForestSegmenter(class_weight="balanced", random_state=options.seed)
    forest.fit([sample.image for sample in samples], [sample.labels for sample in samples])
    fitted = cpu_seconds() - started
    forest.save(options.out / "forest.segalgos")
    measure(
        f"forest, {options.strokes} strokes",
        options,
        lambda image: to_objects(np.asarray(forest.predict(image))),
        label_seconds=options.strokes * SECONDS_STROKE,
        fit_cpu_seconds=fitted,
        settings={"strokes": options.strokes, "pictures": len(samples)},
    )


if __name__ == "__main__":
    main()
