"""Where networks compute."""

import pytest

torch = pytest.importorskip("torch")

from segalgos.nets.devices import find_device  # noqa: E402


def test_names_and_devices():
    assert find_device(None, "caller").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device(torch.device("cpu"), "caller") == torch.device("cpu")
    # torch.load cannot bring a checkpoint to a CPU with a number.
    assert find_device("cpu:0", "caller") == torch.device("cpu")


def test_errors():
    with pytest.raises(TypeError, match="caller: device is 3, expected a name"):
        find_device(3, "caller")
    with pytest.raises(ValueError, match="caller: device is 'nowhere', which is not here"):
        find_device("nowhere", "caller")
