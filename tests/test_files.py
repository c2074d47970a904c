"""Reading and writing images and label maps; files replaced whole or not at all."""

import os
import stat
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segalgos import files, read_image, read_labels, write_image, write_labels
from segalgos.files import atomic_path, find_images

# --- atomic files ------------------------------------------------------------------------


def test_atomic_path_replaces(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second, and longer"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
        assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_atomic_path_after_an_error(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("older")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a.txt"]
    path.unlink()
    with pytest.raises(error):
        write()
    assert os.listdir(tmp_path) == []


def test_atomic_path_when_the_file_cannot_be_replaced(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    with pytest.raises(OSError), atomic_path(path) as temporary:
        temporary.write_text("text")
    assert os.listdir(tmp_path) == ["a"]
    assert path.is_dir()


def test_atomic_path_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("older")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_path(path) as temporary:
        temporary.write_text("half")
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_atomic_path_gives_usual_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


# --- finding images ----------------------------------------------------------------------


def test_find_images(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", "d.tiff"):
        (tmp_path / name).write_bytes(b"")
    names = [path.name for path in find_images(tmp_path)]
    assert names == ["a.JPG", "b.png", "d.tiff"]
    assert find_images([tmp_path / "c.txt", str(tmp_path / "b.png")]) == [
        tmp_path / "c.txt",
        tmp_path / "b.png",
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no image"):
        find_images(empty)
    with pytest.raises(FileNotFoundError, match=r"nothing does not exist"):
        find_images(tmp_path / "nothing")


# --- reading images ----------------------------------------------------------------------


def _photo(shape=(5, 7, 3)):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _save(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.PNG", "a.ppm"])
def test_colour_comes_back(tmp_path, name):
    path = tmp_path / name
    write_image(path, _photo())
    image = read_image(str(path))
    np.testing.assert_array_equal(image, _photo())
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.pgm"])
def test_grey_comes_back(tmp_path, name):
    write_image(tmp_path / name, _photo((5, 7)))
    np.testing.assert_array_equal(read_image(tmp_path / name), _photo((5, 7)))


def test_lossy_formats_come_close(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)[..., None].repeat(3, 2)
    for name in ("a.jpg", "a.webp"):
        write_image(tmp_path / name, smooth)
        back = read_image(tmp_path / name)
        assert back.shape == smooth.shape
        assert np.abs(back.astype(int) - smooth).max() < 20


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_kept(tmp_path, name):
    deep = np.array([[0, 255, 256], [1000, 40000, 65535]], np.uint16)
    if name.endswith("png"):
        _save(tmp_path, deep, name)
    else:
        tifffile.imwrite(tmp_path / name, deep)
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image, deep)
    assert image.max() == 65535


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4", "f8", "?"])
def test_tiff_dtypes_are_kept(tmp_path, dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_camera_orientation_is_applied(tmp_path, orientation, name):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # top left
    # What the camera stores, so that turning it by the tag gives the upright picture.
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path, np.ascontiguousarray(stored), name, exif=exif)
    image = read_image(path)
    assert image.shape == upright.shape
    np.testing.assert_array_equal(image > 127, upright > 127)


def test_palettes_are_expanded(tmp_path):
    colours = np.array([[10, 20, 30], [200, 0, 100]], np.uint8)
    indices = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    picture = Image.fromarray(indices, mode=None).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(colours.ravel().tolist())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        image = read_image(_save(tmp_path, picture, name))
        np.testing.assert_array_equal(image[..., :3], colours[indices], err_msg=name)
        assert image.shape == (2, 3, 3)
    path = _save(tmp_path, picture, "clear.png", transparency=1)
    image = read_image(path)
    np.testing.assert_array_equal(image[..., :3], colours[indices])
    np.testing.assert_array_equal(image[..., 3], np.where(indices == 1, 0, 255))


def test_opaque_alpha_is_left_out(tmp_path):
    photo, grey = _photo(), _photo((5, 7))
    opaque = np.full((5, 7, 1), 255, np.uint8)
    path = _save(tmp_path, np.concatenate([photo, opaque], axis=2))
    np.testing.assert_array_equal(read_image(path), photo)
    path = _save(tmp_path, np.concatenate([grey[..., None], opaque], axis=2))
    np.testing.assert_array_equal(read_image(path), grey)


def test_real_alpha_is_kept(tmp_path):
    photo = _photo((5, 7, 4))
    np.testing.assert_array_equal(read_image(_save(tmp_path, photo)), photo)


def test_black_and_white(tmp_path):
    bits = np.eye(9, dtype=bool)
    image = read_image(_save(tmp_path, Image.fromarray(bits)))
    np.testing.assert_array_equal(image, bits * np.uint8(255))


def test_print_colours_become_rgb(tmp_path):
    path = _save(tmp_path, Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "a.tif")
    assert read_image(path).shape[:2] == (4, 6)
    path = _save(tmp_path, Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "a.jpg")
    image = read_image(path)
    assert image.shape == (4, 6, 3)
    assert image[..., 0].min() > 200 > 50 > image[..., 1:].max()


# --- bad files ---------------------------------------------------------------------------


def _claim_png(path, width, height):
    """A PNG whose header claims a size that its data does not have."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("reader", [read_image, read_labels])
@pytest.mark.parametrize("size", [(20_000, 20_000), (100_000, 30_000)])
def test_bombs_are_refused_undecoded(tmp_path, monkeypatch, reader, size):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    path = _claim_png(tmp_path / "bomb.png", *size)
    with pytest.raises(ValueError, match=r"bomb.png .* pixels.*limit"):
        reader(path)


def test_own_limit(tmp_path, monkeypatch):
    path = _save(tmp_path, _photo((10, 20)))
    assert read_image(path, max_pixels=200).shape == (10, 20)
    tifffile.imwrite(tmp_path / "a.tif", _photo((10, 20)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    monkeypatch.setattr(
        tifffile.TiffPageSeries, "asarray", lambda *a, **k: pytest.fail("it was decoded")
    )
    for name in ("a.png", "a.tif"):
        for reader in (read_image, read_labels):
            with pytest.raises(ValueError, match=r"200 pixels.*limit of 199.*max_pixels="):
                reader(tmp_path / name, max_pixels=199)


def test_tiff_bombs(tmp_path):
    path = tmp_path / "bomb.tif"
    tiles = (np.zeros((4096, 4096), np.uint8) for _ in range(25))
    tifffile.imwrite(
        path,
        tiles,
        shape=(20480, 20480),
        dtype=np.uint8,
        tile=(4096, 4096),
        compression="zlib",
    )
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ValueError, match=r"419,430,400 pixels"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif", "a.webp", "a.ppm"])
def test_damaged_files_are_named(tmp_path, name):
    path = _save(tmp_path, _photo((40, 50, 3)), name)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"not an image", whole[:1], whole[: len(whole) // 3], rng.bytes(500)]
    for content in damaged:
        path.write_bytes(content)
        for reader in (read_image, read_labels):
            with pytest.raises(ValueError, match=rf"{reader.__name__}: .*{name}.*another format"):
                reader(path)
    for _ in range(60):  # noise: read or refused, never another error
        content = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 400), 3):
            content[position] = rng.integers(256)
        path.write_bytes(content)
        try:
            image = read_image(path)
        except ValueError as error:
            message = str(error)
        else:
            message = name
            assert image.ndim in (2, 3, 4)
        assert name in message


def test_no_image(tmp_path):
    for reader in (read_image, read_labels):
        with pytest.raises(FileNotFoundError, match=r"nothing.png does not exist"):
            reader(tmp_path / "nothing.png")
        with pytest.raises(IsADirectoryError, match=r"is a folder"):
            reader(tmp_path)


# --- label maps --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.npy", "a.NPY"])
@pytest.mark.parametrize("high", [1, 255, 256, 65535])
def test_labels_come_back(tmp_path, name, high):
    labels = np.array([[0, 1, high], [high - 1, 1, 0]], np.int64)
    write_labels(tmp_path / name, labels)
    back = read_labels(tmp_path / name)
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.int32
    assert back.flags.c_contiguous


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_negative_and_large_ids_come_back(tmp_path, name):
    labels = np.array([[-1, 70000], [2**31 - 1, -(2**31)]])
    write_labels(tmp_path / name, labels)
    np.testing.assert_array_equal(read_labels(tmp_path / name), labels)


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("a.png", [[-1, 0]], r"ids -1 to 0 do not fit a PNG.*\.tif or \.npy"),
        ("a.png", [[0, 65536]], r"ids 0 to 65536 do not fit"),
        ("a.jpg", [[0, 1]], r"ends in '.jpg', expected .png, .tif or .npy"),
        ("a", [[0, 1]], r"ends in 'nothing'"),
        ("a.png", [[0.5, 1]], r"labels is float64"),
        ("a.png", [0, 1], r"of shape \(2,\)"),
    ],
)
def test_what_cannot_be_kept_is_not_written(tmp_path, name, labels, words):
    with pytest.raises(ValueError, match=words):
        write_labels(tmp_path / name, np.array(labels))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_ids_beyond_int32_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"4294967296"):
        write_labels(tmp_path / name, np.array([[0, 2**32]]))
    assert os.listdir(tmp_path) == []


def test_palette_indices_are_the_labels(tmp_path):
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.new("P", (3, 2))
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for name in ("a.png", "a.gif", "a.tif"):
        np.testing.assert_array_equal(read_labels(_save(tmp_path, picture, name)), indices, name)


def test_grey_masks_saved_as_colour(tmp_path):
    grey = np.array([[0, 255], [7, 255]], np.uint8)
    path = _save(tmp_path, grey[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(read_labels(path), grey)
    path = _save(tmp_path, _photo())
    with pytest.raises(ValueError, match=r"a.png is a colour picture"):
        read_labels(path)


def test_bit_masks_are_labels(tmp_path):
    bits = np.eye(9, dtype=bool)
    np.testing.assert_array_equal(read_labels(_save(tmp_path, Image.fromarray(bits))), bits)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2)), r"holds float64"),
        (np.zeros((2, 2, 2), int), r"has shape \(2, 2, 2\)"),
        (np.array([[2**40]]), r"holds the id 1099511627776"),
        (np.array([[-(2**40)]]), r"holds the id -1099511627776"),
    ],
)
def test_arrays_that_are_no_labels(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=r"read_labels: .*a.npy " + words):
        read_labels(tmp_path / "a.npy")


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy is not a plain array file"):
        read_labels(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.npy is not a plain array file"):
        read_labels(tmp_path / "a.npy")


def test_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_labels(path, np.array([[1, 2]]))
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    for write, content in ((write_labels, np.eye(3, dtype=int)), (write_image, _photo())):
        with pytest.raises(OSError, match=r"No space left"):
            write(path, content)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("a.png", np.zeros((3, 3)), r"image is float64, expected uint8"),
        ("a.xyz", _photo(), r"ends in '.xyz'"),
        ("a.jpg", _photo((5, 7, 4)), r"a.jpg"),
        ("a.png", _photo((5, 7, 2, 2)), r"has shape"),
        ("a.png", _photo((5,)), r"has shape"),
    ],
)
def test_write_image_refuses(tmp_path, name, image, words):
    with pytest.raises(ValueError, match=words):
        write_image(tmp_path / name, image)
    assert os.listdir(tmp_path) == []


def test_limit_is_pillows():
    assert files.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
