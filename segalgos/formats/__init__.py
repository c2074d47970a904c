"""Label formats: objects of images as files of COCO, Pascal VOC, YOLO and others hold them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
