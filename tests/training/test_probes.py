import numpy as np
import pytest

from segalgos.training import kmeans_probe, linear_probe


def scene(seed, noise=0.1):
    """Three bands whose labels two channels tell, with a band that is not labelled."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2, -1], 6)[:, None] * np.ones((1, 16), int)
    colours = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    return colours[labels] + noise * rng.normal(size=(24, 16, 2)), labels


def colours(image):
    return image


def blocks(image):
    """Features of cells of 2 x 2 pixels."""
    return image.reshape(12, 2, 8, 2, 2).mean((1, 3))


SCENES = [scene(seed) for seed in range(4)]
IMAGES, LABELS = zip(*SCENES)


@pytest.mark.parametrize(("features", "least"), [(colours, 0.999), (blocks, 0.85)])
def test_linear_probe_of_features_that_tell_the_classes(features, least):
    scores = linear_probe(features, IMAGES[:2], LABELS[:2], IMAGES[2:], LABELS[2:])
    assert scores["mean_iou_dataset"] >= least
    assert len(scores["iou_per_class"]) == 3


def test_linear_probe_of_features_that_tell_nothing():
    scores = linear_probe(
        lambda image: np.zeros((24, 16, 1)), IMAGES[:2], LABELS[:2], IMAGES[2:], LABELS[2:]
    )
    assert scores["mean_iou_dataset"] < 0.2


def test_linear_probe_of_two_classes_and_few_cells():
    labels = [np.minimum(label, 1) for label in LABELS]
    scores = linear_probe(colours, IMAGES[:1], labels[:1], IMAGES[1:], labels[1:], n_samples=60)
    assert scores["mean_iou_dataset"] > 0.95


@pytest.mark.parametrize(("features", "least"), [(colours, 0.99), (blocks, 0.85)])
def test_kmeans_probe_names_clusters_by_the_best_assignment(features, least):
    labels = [np.where(label < 0, -1, 2 - label) for label in LABELS]
    # The band without labels makes a fourth cluster.
    scores = kmeans_probe(features, IMAGES, labels, n_clusters=4, random_state=0)
    assert scores["mean_iou_dataset"] >= least


def test_kmeans_probe_counts_clusters_without_a_class_as_misses():
    image = np.repeat([0.0, 1.0, 2.0], 4)[:, None] * np.ones((1, 4))
    labels = np.repeat([0, 0, 1], 4)[:, None] * np.ones((1, 4), int)

    def turned(image):  # three directions
        angle = 2 * image
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)

    scores = kmeans_probe(turned, [image], [labels], n_clusters=3, random_state=0)
    np.testing.assert_allclose(scores["iou_per_class"], [0.5, 1.0])


@pytest.mark.parametrize(
    ("features", "images", "labels", "error", "match"),
    [
        (colours, [], [], ValueError, "holds 0 images"),
        (colours, IMAGES[:1], LABELS[:2], ValueError, "1 images and their labels 2 maps"),
        (
            colours,
            IMAGES[:1],
            [LABELS[0][1:]],
            ValueError,
            r"expected integers of shape \(24, 16\)",
        ),
        (colours, IMAGES[:1], [LABELS[0] + 0.5], ValueError, "float64"),
        (colours, [IMAGES[0] * np.nan], LABELS[:1], ValueError, "NaN"),
        (lambda image: image[..., 0], IMAGES[:1], LABELS[:1], ValueError, r"shape \(h, w, F\)"),
        (lambda image: image * np.inf, IMAGES[:1], LABELS[:1], ValueError, "finite"),
    ],
)
def test_bad_input_is_refused(features, images, labels, error, match):
    with pytest.raises(error, match=match):
        kmeans_probe(features, images, labels)
    with pytest.raises(error, match=match):
        linear_probe(features, images, labels, IMAGES[2:], LABELS[2:])


def test_labels_of_one_class_are_refused_by_the_linear_probe():
    labels = [np.zeros((24, 16), int)]
    with pytest.raises(ValueError, match="labels has 1 classes"):
        linear_probe(colours, IMAGES[:1], labels, IMAGES[1:2], labels)
