"""What detectors are built of: boxes, anchors, suppression, pooling of regions, pyramids."""
