"""Arrays larger than memory: the labels of the whole image, read and written by tiles."""

import numpy as np
import pytest
from skimage import data

from segalgos import RandomForestSegmenter
from segalgos.pixels import segmenter as pixel_segmenter

OPTIONS = {"scales": (1, 2), "max_samples": 800, "random_state": 0}


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(pixel_segmenter, "TILE_PIXELS", 30 * 30)


class Reads:
    """An array that counts how much of it is read at a time."""

    def __init__(self, array):
        self.array, self.largest = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, window):
        part = self.array[window]
        self.largest = max(self.largest, part.size)
        return part


def make(kind):
    colour = data.astronaut()[:90, :120]
    options = dict(OPTIONS)
    if kind == "grey":
        image = colour[..., 0]
    elif kind == "colour":
        image = colour
        options |= {"features": ("gaussian", "lab", "position")}
    elif kind == "float":
        image = colour.astype(np.float64) / 300 - 0.4
    elif kind == "channels first":
        image = np.moveaxis(colour, -1, 0)
        options["channel_axis"] = 0
    else:
        image = colour[..., 0].reshape(5, 18, 120)
        options["channel_axis"] = None
    space = image.shape if kind in ("grey", "volume") else colour.shape[:2]
    truth = np.full(space, 3)
    truth[..., 60:] = 5
    return image, truth, RandomForestSegmenter(5, **options).fit(image, truth)


KINDS = ["grey", "colour", "float", "channels first", "volume"]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_whole_image(kind, small_tiles):
    image, _, segmenter = make(kind)
    expected = segmenter.predict(image)
    source = Reads(image)
    found = segmenter.predict_large(source)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32
    if kind in ("grey", "colour"):
        assert source.largest < image.size / 2


@pytest.mark.parametrize("kind", ["grey", "channels first"])
def test_memory_maps_are_read_and_written(kind, small_tiles, tmp_path):
    image, truth, segmenter = make(kind)
    np.save(tmp_path / "image.npy", image)
    source = np.load(tmp_path / "image.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.int32, truth.shape)
    assert segmenter.predict_large(source, out) is out
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), segmenter.predict(image))


def test_zarr_arrays_are_read_and_written(small_tiles, tmp_path):
    zarr = pytest.importorskip("zarr", reason="needs the extra [large]")
    image, truth, segmenter = make("colour")
    source = zarr.open(
        tmp_path / "image", mode="w", shape=image.shape, chunks=(25, 25, 3), dtype="u1"
    )
    source[:] = image
    out = zarr.open(tmp_path / "labels", mode="w", shape=truth.shape, chunks=(40, 40), dtype="i4")
    segmenter.predict_large(source, out)
    np.testing.assert_array_equal(out[:], segmenter.predict(image))


@pytest.mark.parametrize("kind", KINDS)
def test_dask_arrays_are_labelled_when_asked(kind, small_tiles):
    da = pytest.importorskip("dask.array", reason="needs the extra [large]")
    image, truth, segmenter = make(kind)
    labels = segmenter.predict_large(da.from_array(image, chunks=-(-np.array(image.shape) // 2)))
    assert isinstance(labels, da.Array)
    assert labels.numblocks == (2,) * truth.ndim
    np.testing.assert_array_equal(labels.compute(scheduler="threads"), segmenter.predict(image))


def test_features_of_unknown_reach_see_the_whole(small_tiles):
    da = pytest.importorskip("dask.array", reason="needs the extra [large]")
    image, truth, _ = make("grey")
    options = OPTIONS | {"extra": lambda image: image - image.mean()}
    segmenter = RandomForestSegmenter(5, **options).fit(image, truth)
    expected = segmenter.predict(image)
    np.testing.assert_array_equal(segmenter.predict_large(Reads(image)), expected)
    chunked = segmenter.predict_large(da.from_array(image, chunks=50))
    np.testing.assert_array_equal(chunked.compute(), expected)


def test_bad_arrays_are_refused_before_anything_is_written(small_tiles):
    image, truth, segmenter = make("float")
    out = np.full(truth.shape, 77, np.int32)
    broken = image.copy()
    broken[80, 100, 0] = np.nan
    for source, into, match in [
        (Reads(broken), out, r"source\[60:90, 90:120\] holds 1 NaN"),
        (Reads(image[..., :2]), out, "source has 2 channels, fitted with 3"),
        (Reads(image), out[:5], r"out has shape \(5, 120\)"),
        (Reads(image[None]), out, "source has shape"),
    ]:
        with pytest.raises(ValueError, match=f"predict_large: {match}"):
            segmenter.predict_large(source, into)
        assert (out == 77).all()
    with pytest.raises(TypeError, match="source is a list"):
        segmenter.predict_large([[1, 2]])
    with pytest.raises(ValueError, match="smoothing is 'graph_cut'"):
        segmenter.set_params(smoothing="graph_cut").predict_large(Reads(image))
