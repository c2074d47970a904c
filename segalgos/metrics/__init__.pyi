from . import (
    aji,
    boundaries,
    cityscapes,
    coco,
    contingency,
    instances,
    interactive,
    levels,
    outlines,
    panoptic,
    regions,
    semantic,
    superpixels,
)
from .aji import aji_counts, aji_scores, aji_scores_from_counts
from .boundaries import (
    BoundaryCounts,
    boundary_counts,
    boundary_scores,
    boundary_scores_from_counts,
    evaluate_hierarchies,
    partition_boundaries,
)
from .cityscapes import (
    CityscapesCounts,
    cityscapes_counts,
    cityscapes_scores,
    cityscapes_scores_from_counts,
)
from .coco import coco_average_precision
from .contingency import ContingencyTable, contingency_table
from .instances import instance_counts, instance_scores, instance_scores_from_counts
from .interactive import click_scores, object_iou
from .levels import LevelCounts, level_counts, level_scores, level_scores_from_counts
from .outlines import boundary_iou, boundary_of
from .panoptic import (
    PanopticMap,
    panoptic_counts,
    panoptic_scores,
    panoptic_scores_from_counts,
)
from .regions import (
    best_class_labels,
    best_overlaps,
    region_scores,
    region_scores_from_tables,
)
from .semantic import semantic_counts, semantic_scores, semantic_scores_from_counts
from .superpixels import superpixel_scores

__all__ = [
    "BoundaryCounts",
    "CityscapesCounts",
    "ContingencyTable",
    "LevelCounts",
    "PanopticMap",
    "aji",
    "aji_counts",
    "aji_scores",
    "aji_scores_from_counts",
    "best_class_labels",
    "best_overlaps",
    "boundaries",
    "boundary_counts",
    "boundary_iou",
    "boundary_of",
    "boundary_scores",
    "boundary_scores_from_counts",
    "cityscapes",
    "cityscapes_counts",
    "cityscapes_scores",
    "cityscapes_scores_from_counts",
    "click_scores",
    "coco",
    "coco_average_precision",
    "contingency",
    "contingency_table",
    "evaluate_hierarchies",
    "instance_counts",
    "instance_scores",
    "instance_scores_from_counts",
    "instances",
    "interactive",
    "level_counts",
    "level_scores",
    "level_scores_from_counts",
    "levels",
    "object_iou",
    "outlines",
    "panoptic",
    "panoptic_counts",
    "panoptic_scores",
    "panoptic_scores_from_counts",
    "partition_boundaries",
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
