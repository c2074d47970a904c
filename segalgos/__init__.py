"""Five generations of image segmentation behind one `Segmenter`.

Names are imported on first use (see ``__init__.pyi``): importing the package loads
neither torch, scikit-learn nor numba.
"""

import lazy_loader

__version__ = "0.1.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = f"segalgos.{name} needs torch: pip install 'segalgos[torch]'."
        raise ModuleNotFoundError(message, name="torch") from error
