"""Training in mixed precision, by every segmenter that trains a network."""

import numpy as np
import pytest

from segalgos import Instances
from segalgos.catalog import ENTRIES
from segalgos.parallel import thread_limit

TRAINED = [
    entry.name for entry in ENTRIES if entry.family == "nets" and not entry.name.startswith("SAM")
]


def make_data(task):
    rng = np.random.default_rng(0)
    images, labels = [], []
    for _ in range(2):
        truth = np.zeros((64, 64), np.int32)
        row, column = rng.integers(4, 28, 2)
        truth[row : row + 24, column : column + 28] = 1
        noise = rng.normal(0, 0.2, (64, 64, 3))
        images.append((truth[..., None] + noise).astype(np.float32))
        labels.append(Instances.from_labels(truth) if task == "instance" else truth)
    return images, labels


@pytest.mark.parametrize("name", TRAINED)
def test_mixed_precision_follows_float32(name):
    cls = next(entry for entry in ENTRIES if entry.name == name).load()
    images, labels = make_data(cls.traits.task)

    def fit(precision, threads=2):
        segmenter = cls.small().set_params(precision=precision, epochs=4)
        with thread_limit(threads):
            return segmenter.fit(images, labels)

    exact, mixed, again = fit("float32"), fit("bfloat16"), fit("bfloat16", threads=1)
    weights = [one.network_.state_dict() for one in (exact, mixed, again)]
    assert all(w.dtype == weights[0][key].dtype for key, w in weights[1].items())
    assert all(w.equal(weights[2][key]) for key, w in weights[1].items())
    assert not all(w.equal(weights[0][key]) for key, w in weights[1].items())
    first, other = exact.history_[0]["loss"], mixed.history_[0]["loss"]
    assert first != other
    assert other == pytest.approx(first, rel=0.25)  # norms of two values change signs
    assert mixed.predict(images[0]) is not None


def test_unknown_precision():
    from segalgos import UNetSegmenter

    images, labels = make_data("semantic")
    with pytest.raises(ValueError, match="precision is 'half'"):
        UNetSegmenter.small().set_params(precision="half").fit(images, labels)
