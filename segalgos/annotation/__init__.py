"""Making a data set by hand, with help: `segalgos annotate`."""
