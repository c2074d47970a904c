"""Every net takes images of any size, number of channels and kind of number."""

import numpy as np
import pytest

from segalgos import (
    DDRNetSegmenter,
    DeepLabSegmenter,
    FCNSegmenter,
    NetSegmenter,
    SegFormerSegmenter,
    UNetSegmenter,
)

SEGMENTERS = {
    "fcn_32s": FCNSegmenter.small(),
    "fcn_16s": FCNSegmenter.small().set_params(variant="16s"),
    "fcn_8s": FCNSegmenter.small().set_params(variant="8s"),
    "fcn_resnet50": FCNSegmenter.small().set_params(variant="resnet50", base_channels=8),
    "unet_valid": UNetSegmenter.small(),
    "unet_same": UNetSegmenter.small().set_params(padding="same", depth=2, batch_norm=True),
    "unet_efficientnet": UNetSegmenter.small().set_params(encoder="efficientnet_lite0", depth=3),
    "deeplab_v3+": DeepLabSegmenter.small(),
    "deeplab_v3": DeepLabSegmenter.small().set_params(version="v3", output_stride=8),
    "segformer": SegFormerSegmenter.small(),
    "ddrnet": DDRNetSegmenter.small().set_params(auxiliary=True),
    "net": NetSegmenter.small(),
}
DTYPES = (np.uint8, np.uint16, np.float32, np.float64)
SIZES = (1, 2, 3, 5, 7, 13, 31, 32, 33, 61, 64, 97, 127)


def check_shapes(name, n_shapes, seed):
    rng = np.random.default_rng(seed)
    fitted = {}
    for _ in range(n_shapes):
        channels = int(rng.integers(1, 13))
        height, width = (int(n) for n in rng.choice(SIZES, 2))
        dtype = DTYPES[rng.integers(len(DTYPES))]
        if channels not in fitted:
            image = rng.random((9, 11, channels)).astype(np.float32)
            segmenter = SEGMENTERS[name].set_params(epochs=1, channel_axis=-1)
            fitted[channels] = type(segmenter)(**segmenter.get_params(deep=False))
            fitted[channels].fit(image, (image[..., 0] > 0.5).astype(np.int32))
        high = 1 if dtype in (np.float32, np.float64) else np.iinfo(dtype).max
        image = (rng.random((height, width, channels)) * high).astype(dtype)
        labels = fitted[channels].predict(image)
        assert labels.shape == (height, width)
        assert labels.dtype == np.int32
        assert set(np.unique(labels)) <= {0, 1}
        proba = fitted[channels].predict_proba(image)
        assert proba.shape == (height, width, 2)
        assert np.isfinite(proba).all()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_some_shapes(name):
    check_shapes(name, 8, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_thousand_shapes(name):
    check_shapes(name, 1000 // len(SEGMENTERS) + 1, seed=1)
