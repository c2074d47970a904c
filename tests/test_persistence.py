"""Model files: exact, comparable, and safe against crafted content."""

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import segalgos
from segalgos import Segmenter, Traits, load, persistence
from segalgos.checks import check_int


class Model(Segmenter):
    traits = Traits(task="partition", family="tests", year=2000, needs_fit=True)

    def __init__(self, value=None, *, channel_axis="auto"):
        self.value = value
        self.channel_axis = channel_axis

    def _check_params(self):
        if self.value == "refused":
            raise ValueError("Model: value is refused.")

    def _fit(self, images, labels, sample_weight):
        self.learned_ = self.value

    def _predict(self, image, mask, prompts):
        return np.zeros(image.shape[:-1], int)


def _fitted(value):
    return Model(value).fit(np.zeros((2, 2)))


def _round_trip(model, path):
    model.save(path)
    return load(path, segmenters=[Model])


VALUES = [
    None,
    True,
    -3,
    2**80,
    0.1,
    float("inf"),
    "text \u20ac \U0001f600",
    "",
    [],
    (),
    {},
    [1, (2, [3, None])],
    {"a": {"array": "0"}, "tuple": (1,), "dict": 3},
    {0: 1.5, 255: None},
    [{"k": (1.5, "x")}],
    ("auto", None, -1),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value, tmp_path):
    twin = _round_trip(_fitted(value), tmp_path / "m")
    for back in (twin.value, twin.learned_):
        assert back == value
        assert type(back) is type(value)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_come_back(dtype, shape, tmp_path):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    array = np.asarray(array)
    twin = _round_trip(_fitted({"a": [array, array.T]}), tmp_path / "m")
    for back, sent in zip(twin.learned_["a"], (array, array.T), strict=True):
        assert back.dtype == sent.dtype
        assert back.shape == sent.shape
        np.testing.assert_array_equal(back, sent)


def test_nan_comes_back(tmp_path):
    twin = _round_trip(_fitted([float("nan"), np.array([np.nan])]), tmp_path / "m")
    assert np.isnan(twin.learned_[0])
    assert np.isnan(twin.learned_[1]).all()


def test_numpy_scalars_become_numbers(tmp_path):
    twin = _round_trip(_fitted([np.float32(0.5), np.int8(3), np.bool_(True)]), tmp_path / "m")
    assert twin.learned_ == [0.5, 3, True]
    assert [type(v) for v in twin.learned_] == [float, int, bool]


def test_paths_become_text(tmp_path):
    assert _round_trip(_fitted([Path("a") / "b"]), tmp_path / "m").learned_ == [
        os.path.join("a", "b")
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (len, "builtin_function_or_method"),
        (np.random.RandomState(0), "RandomState"),
        ({(1, 2): 3}, "dict"),
        ({1, 2}, "set"),
        (1j, "complex"),
        (b"bytes", "bytes"),
        (np.array(["text"]), "ndarray"),
        (np.array([None]), "ndarray"),
        (object(), "object"),
    ],
)
def test_what_a_file_cannot_hold_is_named(value, kind, tmp_path):
    path = tmp_path / "m"
    path.write_text("older")
    with pytest.raises(TypeError, match=rf"Model.save: parameter value\[0\] is a {kind}"):
        Model([value]).save(path)
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["m"]


def test_learned_attribute_is_named(tmp_path):
    model = _fitted(1)
    model.learned_ = len
    with pytest.raises(TypeError, match=r"Model.save: attribute learned_ is a builtin"):
        model.save(tmp_path / "m")


def test_class_must_be_known(tmp_path):
    path = tmp_path / "m"
    Model().save(path)
    with pytest.raises(ValueError, match=r"m is damaged or foreign .*Model"):
        load(path)
    assert type(load(path, segmenters=[Model])) is Model


def test_metadata(tmp_path):
    _fitted([1, np.zeros(3)]).save(tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        content = json.loads(file.metadata()["segalgos"])
    assert content["class"] == "Model"
    assert content["library_version"] == segalgos.__version__
    assert content["format_version"] == 1
    assert content["parameters"]["dict"]["channel_axis"] == "auto"
    assert len(content["sha256"]) == 64


def test_files_are_reproducible(tmp_path):
    model = _fitted({"weights": [np.arange(6.0), np.eye(3)], "name": "x"})
    paths = [tmp_path / str(i) for i in range(6)]
    for path in paths:
        model.save(path)
    assert len({path.read_bytes() for path in paths}) == 1


# --- files made to deceive, with a checksum that is right --------------------------------


def _write(path, arrays=None, **changes):
    arrays = {"0": np.arange(3)} if arrays is None else arrays
    content = {
        "format": persistence.FORMAT,
        "format_version": persistence.FORMAT_VERSION,
        "library_version": "0",
        "class": "Model",
        "parameters": {"dict": {"value": 1}},
        "state": {"dict": {"n_channels_": 1}},
    }
    content |= changes
    content = {k: v for k, v in content.items() if v != "left out"}
    content["sha256"] = persistence._digest(content, arrays)
    save_file(arrays, path, {"segalgos": json.dumps(content)})


def test_written_by_hand(tmp_path):
    _write(tmp_path / "m")
    assert load(tmp_path / "m", segmenters=[Model]).n_channels_ == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"format_version": 2},
        {"format_version": "1"},
        {"format_version": None},
        {"format_version": "left out"},
        {"class": "os.system"},
        {"class": "Segmenter"},
        {"class": ["Model"]},
        {"class": None},
        {"class": "left out"},
        {"parameters": None},
        {"parameters": []},
        {"parameters": "left out"},
        {"parameters": {"dict": {"no_such": 1}}},
        {"parameters": {"dict": {"value": {"code": "print(1)"}}}},
        {"parameters": {"dict": {"value": {"array": "9"}}}},
        {"parameters": {"dict": {"value": {"array": ["0"]}}}},
        {"parameters": {"dict": {"value": {}}}},
        {"parameters": {"dict": {"value": {"array": "0", "tuple": []}}}},
        {"parameters": {"dict": {"value": {"tuple": 3}}}},
        {"parameters": {"dict": {"value": {"dict": []}}}},
        {"parameters": {"dict": {"value": "refused"}}},
        {"state": []},
        {"state": 5},
        {"state": "left out"},
        {"state": {"dict": 5}},
        {"state": {"dict": {"predict": 5}}},
        {"state": {"dict": {"__class__": 5}}},
    ],
    ids=repr,
)
def test_crafted_content_is_refused(changes, tmp_path):
    path = tmp_path / "m"
    _write(path, **changes)
    with pytest.raises(ValueError, match=r"load: .*m is damaged or foreign"):
        load(path, segmenters=[Model])


def test_newer_format_says_so(tmp_path):
    _write(tmp_path / "m", format_version=2)
    with pytest.raises(ValueError, match=r"format 2, this library reads up to 1; update segalgos"):
        load(tmp_path / "m", segmenters=[Model])


def test_state_is_checked_by_the_class(tmp_path):
    class Careful(Model):
        def _set_state(self, state):
            check_int("Careful", "n_channels_", state["n_channels_"], low=1)
            super()._set_state(state)

    path = tmp_path / "m"
    _write(path, **{"class": "Careful"})
    assert load(path, segmenters=[Careful]).n_channels_ == 1
    for state in ({"n_channels_": 0}, {"n_channels_": "1"}, {}):
        _write(path, **{"class": "Careful", "state": {"dict": state}})
        with pytest.raises(ValueError, match=r"damaged or foreign"):
            load(path, segmenters=[Careful])


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "m"
    deep = "[" * 100_000 + "]" * 100_000
    save_file({"0": np.zeros(1)}, path, {"segalgos": deep})
    with pytest.raises(ValueError, match=r"damaged or foreign"):
        load(path, segmenters=[Model])


def test_wrong_checksum(tmp_path):
    path = tmp_path / "m"
    _write(path)
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["segalgos"])
    for checksum in (None, "", "0" * 64, 5):
        text = json.dumps(content | {"sha256": checksum})
        save_file({"0": np.arange(3)}, path, {"segalgos": text})
        with pytest.raises(ValueError, match=r"checksum does not match"):
            load(path, segmenters=[Model])
    save_file({"0": np.arange(1, 4)}, path, {"segalgos": json.dumps(content)})
    with pytest.raises(ValueError, match=r"checksum does not match"):
        load(path, segmenters=[Model])


def test_bare_tensors_are_pointed_elsewhere(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "m")
    with pytest.raises(ValueError, match=r"no segalgos model: .* load_checkpoint"):
        load(tmp_path / "m")


def test_own_files_are_never_taken_for_others(tmp_path):
    # The first bytes are the length of the header, so they take every value.
    for length in range(0, 1400, 8):
        twin = _round_trip(Model("x" * length), tmp_path / "m")
        assert twin.value == "x" * length


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(1, protocol=4), "is a pickle"),
        (b"PK\x03\x04 and more", "is a zip archive"),
        (b"\x93NUMPY\x01\x00", "is a numpy array file"),
        (b"", "truncated, damaged or no segalgos model"),
        (b"{}", "truncated, damaged or no segalgos model"),
        (struct.pack("<Q", 2**62) + b"{}", "truncated, damaged or no segalgos model"),
        (struct.pack("<Q", 2) + b"[]", "truncated, damaged or no segalgos model"),
    ],
)
def test_foreign_files_are_named(content, words, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^load: {path} .*{words}|^load: {path} {words}"):
        load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load: .*nothing does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=r"load: .* is a folder"):
        load(tmp_path)


def test_loading_audits_clean(tmp_path):
    """No import, execution or process is started while a file is read."""
    import sys

    path = tmp_path / "m"
    _fitted([np.eye(3)]).save(path)
    load(path, segmenters=[Model])  # imports what it needs once
    events = []
    listening = [True]

    def hook(event, arguments):
        if listening[0] and event in ("exec", "compile", "pickle.find_class", "os.system"):
            events.append(event)
        if listening[0] and event.startswith("subprocess."):
            events.append(event)

    sys.addaudithook(hook)  # hooks cannot be taken away, only told to stop listening
    try:
        load(path, segmenters=[Model])
    finally:
        listening[0] = False
    assert events == []


def test_folder_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "m.segalgos"
    Model(3).save(path)
    assert load(str(path), segmenters=[Model]).value == 3
