"""Step 4: a U-Net that learns from outlined pins.

python step4_unet.py --epochs 40
"""

from study import (
    SECONDS_OUTLINE,
    arguments,
    cpu_seconds,
    measure,
    open_data,
    to_objects,
    true_objects,
)

from segalgos import UNetSegmenter


def main() -> None:
    """Learn from class maps, and score."""
    options = arguments(__doc__, epochs=40)
    train = open_data(options.data, "train")
    samples = [train[i] for i in range(len(train))]
    started = cpu_seconds()
    net = UNetSegmenter(
        base_channels=12,
        depth=3,
        padding="same",
        crop_size=128,
        learning_rate=0.003,
        epochs=options.epochs,
        random_state=options.seed,
    )
    net.fit([sample.image for sample in samples], [sample.labels for sample in samples])
    fitted = cpu_seconds() - started
    net.save(options.out / "unet.segalgos")
    measure(
        "unet",
        options,
        lambda image: to_objects(net.predict(image)),
        label_seconds=SECONDS_OUTLINE * sum(len(true_objects(sample)) for sample in samples),
        fit_cpu_seconds=fitted,
        settings={"epochs": options.epochs, "pictures": len(samples)},
    )


if __name__ == "__main__":
    main()
