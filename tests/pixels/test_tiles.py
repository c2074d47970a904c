import numpy as np
import pytest

from segalgos.pixels.tiles import cut_into_tiles, moved


@pytest.mark.parametrize(
    ("shape", "sides"), [((7, 11), (3, 4)), ((5, 5), (9, 2)), ((4, 3, 8), (2, 2, 3))]
)
def test_tiles_cover_the_image_once(shape, sides):
    covered = np.zeros(shape, int)
    for tile in cut_into_tiles(shape, sides):
        assert all(0 < part.stop - part.start <= side for part, side in zip(tile, sides))
        covered[tile] += 1
    assert (covered == 1).all()


def test_a_tile_moves():
    assert moved((slice(0, 2), slice(5, 9)), (3, -1)) == (slice(3, 5), slice(4, 8))
