import numpy as np
import pytest

from segalgos.pixels.tiles import cut_into_tiles


@pytest.mark.parametrize(
    ("shape", "sides", "halo"),
    [((7, 11), (3, 4), (1, 2)), ((5, 5), (9, 2), (0, 3)), ((4, 3, 8), (2, 2, 3), (1, 0, 5))],
)
def test_tiles_cover_the_image_once_and_see_their_halo(shape, sides, halo):
    image = np.arange(np.prod(shape)).reshape(shape)
    covered = np.zeros(shape, int)
    for target, source, inner in cut_into_tiles(shape, sides, halo):
        covered[target] += 1
        np.testing.assert_array_equal(image[source][inner], image[target])
        for t, s, length, margin in zip(target, source, shape, halo, strict=True):
            assert s.start == max(0, t.start - margin)
            assert s.stop == min(length, t.stop + margin)
    assert (covered == 1).all()
