"""Losses, augmentation and the loop that trains any network; knows no architecture.

`pretrain`, `linear_probe` and `kmeans_probe` are imported on first use. The first makes encoders
by name, so it lives in `segalgos.nets.pretraining`: nothing else here looks there.
"""

from importlib import import_module
from typing import Any

__all__ = ["kmeans_probe", "linear_probe", "pretrain"]

_PLACES = {
    "kmeans_probe": "segalgos.training.probes",
    "linear_probe": "segalgos.training.probes",
    "pretrain": "segalgos.nets.pretraining",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
