from . import cityscapes, coco, contingency, instances, regions, semantic, superpixels
from .cityscapes import (
    CityscapesCounts,
    cityscapes_counts,
    cityscapes_scores,
    cityscapes_scores_from_counts,
)
from .coco import coco_average_precision
from .contingency import ContingencyTable, contingency_table
from .instances import instance_counts, instance_scores, instance_scores_from_counts
from .regions import (
    best_class_labels,
    best_overlaps,
    region_scores,
    region_scores_from_tables,
)
from .semantic import semantic_counts, semantic_scores, semantic_scores_from_counts
from .superpixels import superpixel_scores

__all__ = [
    "CityscapesCounts",
    "ContingencyTable",
    "best_class_labels",
    "best_overlaps",
    "cityscapes",
    "cityscapes_counts",
    "cityscapes_scores",
    "cityscapes_scores_from_counts",
    "coco",
    "coco_average_precision",
    "contingency",
    "contingency_table",
    "instance_counts",
    "instance_scores",
    "instance_scores_from_counts",
    "instances",
    "region_scores",
    "region_scores_from_tables",
    "regions",
    "semantic",
    "semantic_counts",
    "semantic_scores",
    "semantic_scores_from_counts",
    "superpixel_scores",
    "superpixels",
]
