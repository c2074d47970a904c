"""Every segmenter that trains a network passes the checks of the contract."""

from segalgos.catalog import all_segmenters
from segalgos.conformance import parametrize_with_checks


@parametrize_with_checks(
    [cls.small() for cls in all_segmenters() if cls.traits.family in ("nets", "instances")]
)
def test_catalogue_conforms(segmenter, check):
    check(segmenter)
