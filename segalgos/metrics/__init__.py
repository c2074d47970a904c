"""Scores: what is counted, from predictions and truths alone.

Every function here takes label maps or instances and knows no segmenter. The names are listed
in ``__init__.pyi`` and loaded on first use, so importing this package compiles nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
