"""Averages, intervals, ranks and answers against computations by hand."""

import numpy as np
import pytest

from segalgos.bench import statistics
from segalgos.bench.statistics import (
    N_RESAMPLES,
    answers,
    build_tables,
    draw,
    failed_cells,
    group_cells,
    image_scores,
    resample,
)
from segalgos.metrics.instances import instance_scores_from_counts
from segalgos.metrics.semantic import semantic_scores_from_counts


def cell(method, values, *, seed=0, dataset="d", note="", **more):
    """A row whose partition view has these coverings."""
    values = list(values)
    defined = [v for v in values if v is not None]
    view = {
        "headline": "covering",
        "note": note,
        "scores": {"covering": float(np.mean(defined)) if defined else None},
        "images": {"covering": values},
    }
    row = {
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "status": "ok",
        "task": "partition",
        "trained": False,
        "image_names": [f"i{k}" for k in range(len(values))],
        "predict_seconds": 0.01,
        "views": {"partition": view},
    }
    return row | more


def failed(method, *, seed=0, dataset="d", status="crash", task="partition"):
    row = {"method": method, "dataset": dataset, "seed": seed, "status": status, "task": task}
    return row | {"reason": "killed by SIGSEGV"}


def ranks(table):
    return {s.method: (s.rank, s.tied) for s in table.standings}


def the_table(*rows):
    tables = build_tables(rows)
    assert len(tables) == 1
    return tables[0]


# --- averages ----------------------------------------------------------------------------


def test_seeds_are_averaged():
    rows = [
        cell("a", [0.2, 0.4], seed=0, fit_seconds=1.0, peak_memory_mb=100.0, predict_seconds=0.1),
        cell("a", [0.4, 0.8], seed=1, fit_seconds=3.0, peak_memory_mb=300.0, predict_seconds=0.3),
    ]
    (standing,) = the_table(*rows).standings
    assert standing.score == pytest.approx(0.45)
    assert standing.seed_std == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert standing.image_scores == pytest.approx([0.3, 0.6])
    assert (standing.n_seeds, standing.n_failed) == (2, 0)
    assert standing.fit_seconds == 2.0
    assert standing.predict_seconds == pytest.approx(0.2)
    assert standing.peak_memory_mb == 300.0


def test_one_seed_has_no_deviation_and_no_fit_has_no_seconds():
    (standing,) = the_table(cell("a", [0.2, 0.4])).standings
    assert standing.seed_std is None
    assert standing.fit_seconds is None


def test_undefined_scores_stay_out_of_averages():
    (standing,) = the_table(
        cell("a", [0.2, None, 0.6]), cell("a", [None, None, 0.2], seed=1)
    ).standings
    assert standing.image_scores == pytest.approx([0.2, np.nan, 0.4], nan_ok=True)
    assert standing.interval is not None


def test_score_lists_are_averaged_by_place():
    rows = [cell("a", [0.5, 0.5], seed=s) for s in range(2)]
    rows[0]["views"]["partition"]["scores"]["iou_per_class"] = [0.2, None]
    rows[1]["views"]["partition"]["scores"]["iou_per_class"] = [0.4, 0.6]
    (standing,) = the_table(*rows).standings
    assert standing.score_lists["iou_per_class"] == pytest.approx([0.3, 0.6])


# --- bootstrap ---------------------------------------------------------------------------


def test_resamples_hold_as_many_images_as_there_are():
    weights = draw(7)
    assert weights.shape == (N_RESAMPLES, 7)
    assert (weights.sum(axis=1) == 7).all()
    # Each image is drawn once on average, with the variance of a binomial.
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    assert weights.var() == pytest.approx(6 / 7, rel=0.05)


def test_interval_of_two_images_is_the_range_of_all_resamples():
    # A quarter of the resamples is twice the first image, a quarter twice the second.
    (standing,) = the_table(cell("a", [0.2, 0.6])).standings
    assert standing.interval == pytest.approx((0.2, 0.6))
    assert set(np.round(standing.resampled, 9)) == {0.2, 0.4, 0.6}


def test_interval_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(0).normal(0.5, 0.1, 200)
    (standing,) = the_table(cell("a", values)).standings
    half = 1.96 * values.std() / np.sqrt(200)
    assert standing.interval == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=half / 8
    )


def test_data_set_iou_is_recomputed_from_the_drawn_images():
    counts = np.random.default_rng(1).integers(0, 50, (5, 3, 4))
    counts[:, :, 3] = 0  # an absent class
    view = {"headline": "mean_iou_dataset", "images": {"counts": counts.tolist()}}
    resampled = resample(view, 5)
    weights = draw(5).astype(int)
    for i in (0, 1, N_RESAMPLES - 1):
        drawn = np.repeat(counts, weights[i], axis=0)
        expected = semantic_scores_from_counts(drawn)["mean_iou_dataset"]
        assert resampled[i] == pytest.approx(expected)


def test_matching_ap_is_recomputed_from_the_drawn_images():
    counts = np.random.default_rng(2).integers(0, 9, (6, 10, 3))
    view = {
        "headline": "mean_matching_ap",
        # One number an image is there too, but the score is not their average.
        "images": {"counts": counts.tolist(), "mean_matching_ap": [0.0] * 6},
    }
    resampled = resample(view, 6)
    weights = draw(6).astype(int)
    for i in (0, 7, N_RESAMPLES - 1):
        drawn = np.repeat(counts, weights[i], axis=0)
        expected = instance_scores_from_counts(drawn, np.zeros(drawn.shape[:2]))
        assert resampled[i] == pytest.approx(expected["mean_matching_ap"])


def test_image_scores_come_from_counts_if_need_be():
    counts = np.array([[[3, 0], [1, 0], [0, 0]], [[1, 2], [1, 0], [2, 2]]])  # (image, 3, class)
    view = {"headline": "mean_iou_dataset", "images": {"counts": counts.tolist()}}
    name, scores = image_scores(view)
    assert name == "mean_iou_images"
    assert scores == pytest.approx([3 / 4, (1 / 4 + 2 / 4) / 2])
    counts = np.array([[[2, 1, 1], [1, 2, 2]]])  # (image, threshold, 3)
    view = {"headline": "mean_matching_ap", "images": {"counts": counts.tolist()}}
    assert image_scores(view)[1] == pytest.approx([(2 / 4 + 1 / 5) / 2])


def test_same_rows_give_the_same_intervals():
    values = np.random.default_rng(4).random(9)
    first = the_table(cell("a", values)).standings[0].interval
    draw.cache_clear()
    assert the_table(cell("a", values)).standings[0].interval == first


# --- ranks -------------------------------------------------------------------------------


def test_paired_difference_decides_not_overlap_of_intervals():
    values = np.random.default_rng(5).uniform(0.2, 0.9, 40)
    table = the_table(cell("a", values), cell("b", values - 0.01))
    a, b = table.standings
    assert b.interval[1] > a.interval[0]  # they overlap widely, yet b is worse on every image
    assert ranks(table) == {"a": (1, False), "b": (2, False)}


def test_methods_that_cannot_be_told_apart_share_a_rank():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.1, (3, 30))
    table = the_table(
        cell("a", 0.7 + noise[0]),
        cell("b", 0.7 + noise[1]),
        cell("c", 0.3 + noise[2]),
        cell("d", 0.3 + noise[2]),
        cell("e", 0.1 + noise[2] / 10),
    )
    assert ranks(table) == {
        "a": (1, True),
        "b": (1, True),
        "c": (3, True),
        "d": (3, True),
        "e": (5, False),
    }


def test_tie_is_with_the_best_of_the_group_not_with_a_neighbour():
    # b cannot be told from a, nor c from b; but c is worse than a on every image.
    n = 16
    wave = np.where(np.arange(n) % 2 == 0, 0.06, -0.06)
    a = np.full(n, 0.6)
    table = the_table(cell("a", a), cell("b", a - 0.02 + wave), cell("c", a - 0.04))
    assert ranks(table) == {"a": (1, True), "b": (1, True), "c": (3, False)}


def test_one_image_tells_nothing_apart():
    table = the_table(cell("a", [0.9]), cell("b", [0.1]))
    assert ranks(table) == {"a": (1, True), "b": (1, True)}
    assert table.standings[0].interval is None


def test_undefined_score_has_no_rank():
    table = the_table(cell("a", [0.9, 0.8]), cell("b", [None, None]))
    assert ranks(table) == {"a": (1, False), "b": (None, False)}


def test_upper_bounds_are_not_ranked_beside_predictions():
    table = the_table(cell("a", [0.5, 0.6]), cell("bound", [0.9, 0.9], note="oracle"))
    assert ranks(table) == {"a": (1, False), "bound": (None, False)}
    assert [s.method for s in table.standings] == ["a", "bound"]


def test_upper_bounds_are_ranked_among_themselves():
    rows = [cell(m, [v] * 4, note="oracle") for m, v in (("a", 0.5), ("b", 0.9))]
    table = the_table(*rows)
    assert ranks(table) == {"b": (1, False), "a": (2, False)}
    assert answers(table)[0].best.upper_bound


# --- answers -----------------------------------------------------------------------------


def test_answers():
    table = the_table(
        cell("slow", [0.9] * 5, predict_seconds=2.0, trained=True),
        cell("fast", [0.7] * 5, predict_seconds=0.0999, trained=True),
        cell("edge", [0.8] * 5, predict_seconds=0.1, trained=True),
        cell("plain", [0.6] * 5, predict_seconds=0.5),
    )
    found = {answer.question: answer for answer in answers(table)}
    assert [found[q].best.method for q in found] == ["slow", "fast", "plain"]
    assert list(found) == ["accurate", "fast", "untrained"]
    assert not any(answer.tied for answer in found.values())


def test_answers_name_their_ties():
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 0.1, (2, 20))
    table = the_table(
        cell("a", 0.501 + noise[0] - noise[0].mean()), cell("b", 0.5 + noise[1] - noise[1].mean())
    )
    answer = answers(table)[0]
    assert (answer.best.method, answer.tied) == ("a", ("b",))


def test_upper_bound_never_answers_beside_predictions():
    table = the_table(
        cell("net", [0.5] * 3, trained=True, predict_seconds=1.0),
        cell("bound", [0.9] * 3, note="oracle"),
    )
    accurate, fast, untrained = answers(table)
    assert accurate.best.method == "net"
    assert fast.best is None
    assert untrained.best is None
    assert fast.upper_bound.method == untrained.upper_bound.method == "bound"


# --- cells -------------------------------------------------------------------------------


def test_last_row_of_a_cell_counts():
    table = the_table(failed("a"), cell("a", [0.2, 0.3]), cell("a", [0.4, 0.5]))
    (standing,) = table.standings
    assert standing.score == pytest.approx(0.45)
    assert (standing.n_seeds, standing.n_failed) == (1, 0)


def test_failed_cells_are_counted_and_listed():
    rows = [cell("a", [0.2, 0.3]), failed("a", seed=1), failed("b", status="timeout")]
    table = the_table(*rows)
    assert table.standings[0].n_failed == 1
    assert table.failed == {"b": "timeout"}
    assert [(d, r["method"], r["status"]) for d, r in failed_cells(rows)] == [
        ("d", "a", "crash"),
        ("d", "b", "timeout"),
    ]


def test_failed_method_is_not_missed_in_a_view_that_its_task_has_not():
    semantic = cell("net", [0.5, 0.5], task="semantic")
    semantic["views"]["instance"] = semantic["views"]["partition"]
    tables = build_tables([semantic, cell("a", [0.5, 0.5]), failed("b")])
    assert {table.view: table.failed for table in tables} == {
        "partition": {"b": "crash"},
        "instance": {},
    }


def test_other_settings_are_other_data_sets():
    rows = [cell("a", [0.2, 0.3], budget=20.0), cell("a", [0.4, 0.5], budget=60.0)]
    assert list(group_cells(rows)) == ["d (budget 20.0)", "d (budget 60.0)"]
    assert [t.standings[0].score for t in build_tables(rows)] == pytest.approx([0.25, 0.45])


def test_cells_of_other_images_are_left_out_and_say_so():
    odd = cell("c", [0.9, 0.9]) | {"image_names": ["other", "images"]}
    rows = [cell("a", [0.2, 0.3]), cell("b", [0.2, 0.4]), odd]
    table = the_table(*rows)
    assert sorted(s.method for s in table.standings) == ["a", "b"]
    ((_, row),) = failed_cells(rows)
    assert row["status"] == "other images"
    assert "scored on other images" in row["reason"]
    assert odd["status"] == "ok"  # the row itself is untouched


def test_views_come_in_their_order():
    row = cell("a", [0.2, 0.3])
    view = row["views"].pop("partition")
    row["views"] = {"zoo": view, "instance": view, "partition": view, "semantic": view}
    views = [table.view for table in build_tables([row])]
    assert views == [*statistics.VIEWS, "zoo"]


def test_nothing_gives_nothing():
    assert build_tables([]) == []
    assert failed_cells([]) == []
    assert build_tables([failed("a")]) == []
