"""Features of pixels and classifiers on them."""
