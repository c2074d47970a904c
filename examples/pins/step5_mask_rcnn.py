"""Step 5: Mask R-CNN, which finds pin by pin and so parts those that touch.

python step5_mask_rcnn.py --epochs 40
"""

from study import SECONDS_OUTLINE, arguments, cpu_seconds, measure, open_data, true_objects

from segalgos import MaskRCNNSegmenter

LEAST_SCORE = 0.5


def main() -> None:
    """Learn from objects, and score."""
    options = arguments(__doc__, epochs=40)
    train = open_data(options.data, "train")
    samples = [train[i] for i in range(len(train))]
    objects = [true_objects(sample) for sample in samples]
    started = cpu_seconds()
    net = MaskRCNNSegmenter(
        backbone="resnet18",
        base_channels=16,
        width=64,
        box_width=128,
        anchor_sizes=(16, 32, 64, 128, 256),
        anchor_ratios=(0.5, 1.0, 2.0, 4.0),
        image_size=2.0,  # parts of a few pixels vanish in the net's strides
        crop_size=256,
        learning_rate=0.003,
        epochs=options.epochs,
        random_state=options.seed,
    )
    net.fit([sample.image for sample in samples], objects)
    fitted = cpu_seconds() - started
    net.save(options.out / "mask_rcnn.segalgos")

    def predict(image):
        found = net.predict(image)
        return found[found.scores >= LEAST_SCORE]

    measure(
        "mask_rcnn",
        options,
        predict,
        label_seconds=SECONDS_OUTLINE * sum(map(len, objects)),
        fit_cpu_seconds=fitted,
        settings={"epochs": options.epochs, "pictures": len(samples)},
    )


if __name__ == "__main__":
    main()
