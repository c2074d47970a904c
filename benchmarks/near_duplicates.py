"""How well perceptual hashes tell copies of an image from other images, and how fast.

    python benchmarks/near_duplicates.py --data DATA --out FOLDER

DATA is the folder that holds the data sets (`segalgos data list` says where to get them). Images
of COCO128, BSDS500, the Weizmann horses and DSB2018 are copied as data sets get copied: compressed,
scaled, brightened, cropped, turned. A row for each way has the share of copies that
`segalgos data check` would find; one more row the share of pairs of different images that it would
take for copies, and one how long it takes to compare 10,000 hashes. A run that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

import segalgos
from segalgos.bench.store import Store
from segalgos.datasets._image_hash import NEAR, find_near, hash_image

SEED = 0
#: Images that are not copies of one another; of DSB2018 some are crops of one field, so that its
#: pairs are counted apart.
SETS = {
    "COCO128": ("COCO128/images/train2017/*.jpg", 100),
    "BSDS500": ("BSDS500/data/images/*/*.jpg", 200),
    "horses": ("weizmann_horse_db/rgb/*.jpg", 100),
    "DSB2018": ("DSB2018/stage1_train/*/images/*.png", 100),
}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image after compression."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """The image in another size."""
    width, height = (max(1, round(n * factor)) for n in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """The image without a share of each of its sides, more on the left and below."""
    width, height = image.size
    return image.crop(
        (int(width * share), int(height * share / 2), width, height - int(height * share))
    )


def noisy(image: Image.Image) -> Image.Image:
    """The image with noise of 10 levels."""
    noise = np.random.default_rng(SEED).normal(0, 10, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 30": lambda image: jpeg(image, 30),
    "half the size": lambda image: scaled(image, 0.5),
    "0.3 of the size, JPEG 50": lambda image: jpeg(scaled(image, 0.3), 50),
    "416 x 416": lambda image: image.resize((416, 416)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brightness x 1.4": lambda image: ImageEnhance.Brightness(image).enhance(1.4),
    "brightness x 0.6": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "contrast x 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "blur, sigma 2": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise, 10 levels": noisy,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "2 % cut off": lambda image: cropped(image, 0.02),
    "5 % cut off": lambda image: cropped(image, 0.05),
    "turned by 3 degrees": lambda image: image.rotate(3, Image.Resampling.BILINEAR),
}


def main() -> None:
    """Measure everything and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    store = Store(options.out)
    done = {row["key"] for row in store.rows}
    common = {"command": "python benchmarks/near_duplicates.py --data DATA", "seed": SEED}
    common |= {"bits": 255, "near": NEAR, "segalgos": segalgos.__version__}
    images, names = _choose(options.data)
    hashes = np.array([hash_image(np.asarray(image)) for image in images])
    for what, copy in COPIES.items():
        if what in done:
            continue
        found = []
        for image, own in zip(images, hashes, strict=True):
            pair = np.array([own, hash_image(np.asarray(copy(image)))])
            found.append(len(find_near(pair)) > 0)
        row = {"key": what, "kind": "copies", "images": len(found), "found": int(np.sum(found))}
        store.append(common | row)
        print(what, row["found"], "of", row["images"])
    for what, chosen in (
        ("photographs", np.flatnonzero(names != "DSB2018")),
        ("DSB2018", np.flatnonzero(names == "DSB2018")),
    ):
        if what in done:
            continue
        pairs = find_near(hashes[chosen], most=255)
        distances = np.sort(pairs[:, 2])
        row = {"key": what, "kind": "others", "images": len(chosen), "pairs": len(pairs)}
        row |= {"found": int((distances <= NEAR).sum())}
        row |= {"nearest": distances[:10].tolist()}
        store.append(common | row)
        print(what, row)
    many = np.random.default_rng(SEED).integers(0, 2**64, (10_000, 8, 4), np.uint64)
    find_near(many[:10])
    started = time.process_time()  # other programs may run beside it
    find_near(many)
    seconds = round(time.process_time() - started, 2)
    row = {"key": "10,000 hashes", "kind": "time", "cpu_seconds": seconds}
    if row["key"] not in done:
        store.append(common | row)
        print(row)


def _choose(data: Path) -> tuple[list[Image.Image], np.ndarray]:
    rng, images, names = np.random.default_rng(SEED), [], []
    for name, (pattern, count) in SETS.items():
        files = sorted(data.glob(pattern))
        chosen = rng.permutation(len(files))[:count]
        images += [Image.open(files[i]).convert("RGB") for i in sorted(chosen)]
        names += [name] * len(chosen)
    return images, np.array(names)


if __name__ == "__main__":
    main()
