"""Networks that turn an image into maps of features, for the heads of other networks."""
