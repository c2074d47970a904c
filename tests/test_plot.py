"""Palettes, overlays, drawn objects and prompts, the comparison grid, learning curves."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from segalgos import palette, plot
from segalgos.results import Instances, Prompts

RNG = np.random.default_rng(0)
DTYPES = ["uint8", "uint16", "int16", "int64", "float16", "float32", "float64", "bool"]


@pytest.fixture
def halves():
    """Two labels beside each other, and an unlabelled last row."""
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 5, axis=0)
    labels[-1] = -1
    return labels


# --- colours -----------------------------------------------------------------------------


def test_shorter_palette_begins_a_longer_one():
    long = plot.label_colors(3000)
    assert long.shape == (3000, 3)
    assert long.dtype == np.uint8
    for n in (0, 1, 7, 64, 65, 500):
        assert np.array_equal(plot.label_colors(n), long[:n])


def test_colors_are_told_apart_by_colour_blind_eyes():
    linear = palette._linear(plot.label_colors(20) / 255)
    for eye in (np.eye(3), palette._PROTANOPIA, palette._DEUTERANOPIA):
        lab = rgb2lab(palette._gamma((linear @ np.transpose(eye)).clip(0, 1)))
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
        assert distance[~np.eye(20, dtype=bool)].min() > 12


def test_colors_of_a_label_map_reach_its_highest_id():
    assert len(plot.label_colors(np.array([[0, 5], [-1, 2]]))) == 6
    assert len(plot.label_colors(np.full((2, 2), -1))) == 0


def test_palette_cannot_be_spoilt():
    plot.label_colors(4)[:] = 0
    assert plot.label_colors(4).any()


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (2.5, TypeError), ("a", TypeError)])
def test_wrong_number_of_colors(wrong, error):
    with pytest.raises(error, match="label_colors"):
        plot.label_colors(wrong)


# --- boundaries and overlays -------------------------------------------------------------


def test_boundaries_agree_with_brute_force():
    labels = RNG.integers(-1, 3, (7, 9))
    expected = np.zeros(labels.shape, bool)
    for r in range(7):
        for c in range(9):
            for rr, cc in ((r + 1, c), (r, c + 1)):
                if rr < 7 and cc < 9 and labels[rr, cc] != labels[r, c]:
                    expected[r, c] = True
    assert np.array_equal(plot.boundaries(labels), expected)


def test_boundaries_wants_one_map():
    with pytest.raises(ValueError, match=r"labels has shape \(2, 2, 2\), expected \(H, W\)"):
        plot.boundaries(np.zeros((2, 2, 2), int))


def test_overlay_mixes_colors_and_leaves_unlabelled_pixels(halves):
    image = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    before = image.copy()
    painted = plot.overlay(image, halves, alpha=0.25, boundaries=False)
    colors = plot.label_colors(2)
    expected = 0.75 * image[:4] + 0.25 * colors[halves[:4]]
    assert np.abs(painted[:4] - expected).max() <= 0.5 + 1e-4
    assert np.array_equal(painted[4], image[4])
    assert np.array_equal(image, before)


def test_lines_run_where_labels_meet(halves):
    image = np.full((5, 6), 128, np.uint8)
    plain = plot.overlay(image, halves, boundaries=False)
    lined = plot.overlay(image, halves)
    differs = (plain != lined).any(axis=-1)
    assert np.array_equal(differs, plot.boundaries(halves))


def test_line_beside_unlabelled_pixels_has_the_color_of_the_label():
    labels = np.array([[-1, -1], [2, 2]])
    painted = plot.overlay(np.zeros((2, 2)), labels, alpha=0)
    color = plot.label_colors(3)[2].astype(float)
    assert painted[0, 0] == pytest.approx(color + 0.35 * (255 - color), abs=0.51)
    assert (painted[1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 2), (4, 6, 3), (4, 6, 4)])
def test_any_image_is_displayed(dtype, shape):
    image = RNG.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    image.flags.writeable = False
    painted = plot.overlay(image, np.full((4, 6), -1))
    assert painted.shape == (4, 6, 3)
    assert painted.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.array([[10, 20]], np.uint8), [10, 20]),
        (np.array([[0.2, 0.4]]), [51, 102]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[-1.0, 3.0]]), [0, 255]),
        (np.array([[1000, 3000]], np.uint16), [0, 255]),
        (np.array([[7.0, 7.0]]), [0, 0]),
    ],
)
def test_display_is_as_documented(image, shown):
    painted = plot.overlay(image, np.full((1, 2), -1))
    assert painted[0, :, 0].tolist() == shown


def test_overlay_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"overlay: labels has shape \(3, 4\)"):
        plot.overlay(np.zeros((5, 4)), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match="overlay: alpha is 2"):
        plot.overlay(np.zeros((3, 4)), np.zeros((3, 4), int), alpha=2)
    with pytest.raises(ValueError, match="NaN"):
        plot.overlay(np.full((3, 4), np.nan), np.zeros((3, 4), int))


# --- objects -----------------------------------------------------------------------------


def two_objects():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 15:30, 5:30] = True
    masks[1, 20:35, 20:50] = True
    return Instances(masks, scores=[0.9, 0.5])


def test_higher_scores_are_painted_on_top():
    painted = plot.draw_instances(np.zeros((40, 60)), two_objects(), alpha=1, scores=False)
    colors = plot.label_colors(2)
    assert painted[25, 25].tolist() == colors[0].tolist()  # where both are
    assert painted[30, 45].tolist() == colors[1].tolist()
    assert not painted[5, 5].any()


def test_scores_are_written_inside_the_picture():
    image = np.zeros((40, 60))
    plain = plot.draw_instances(image, two_objects(), scores=False)
    written = plot.draw_instances(image, two_objects(), classes=["cat"])
    assert written.shape == plain.shape
    changed = (written != plain).any(axis=-1)
    assert changed[:15, 5:].sum() > 200  # above the surer object
    assert changed[30:, 20:].sum() > 200  # below the other one: the place above is taken
    assert not changed[16:30].any()


def test_no_objects_leave_the_image():
    image = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(plot.draw_instances(image, Instances(np.zeros((0, 8, 9), bool))), image)


def test_instances_must_fit_the_image():
    with pytest.raises(ValueError, match=r"draw_instances: instances has masks of \(40, 60\)"):
        plot.draw_instances(np.zeros((4, 6)), two_objects())


def test_outlines_grow_with_the_image():
    def outline(side):
        masks = np.zeros((1, side, side), bool)
        masks[0, side // 4 : side // 2, side // 4 : side // 2] = True
        return plot.draw_instances(np.zeros((side, side)), Instances(masks), alpha=0, scores=False)

    def thickness(picture):
        row = picture[3 * len(picture) // 8].any(axis=-1)
        return int(row[: len(row) // 3].sum())  # the left side

    assert thickness(outline(200)) == 1
    assert thickness(outline(2400)) == 3


def test_text_is_left_out_where_it_would_hide_text_or_objects():
    # Fifteen objects as small as the text, side by side: there is no room for all of it.
    masks = np.zeros((15, 60, 90), bool)
    for i in range(15):
        row, column = 10 + 14 * (i // 5), 5 + 16 * (i % 5)
        masks[i, row : row + 12, column : column + 14] = True
    image, crowd = np.zeros((60, 90)), Instances(masks, scores=np.linspace(0.9, 0.1, 15))
    plain = plot.draw_instances(image, crowd, scores=False)
    written = plot.draw_instances(image, crowd)
    changed = (written != plain).any(axis=-1)
    assert changed[:8].any()  # above the first row
    hidden = [(changed & mask).sum() / mask.sum() for mask in masks]
    assert max(hidden) <= 0.35


def test_scores_of_objects_at_the_edges_stay_whole():
    masks = np.zeros((2, 50, 80), bool)
    masks[0, :20, 60:] = masks[1, 40:, :20] = True
    objects = Instances(masks, scores=[0.5, 0.5])
    changed = [
        (plot.draw_instances(np.zeros((50, 80)), objects[i]) > 0).any(axis=-1) & ~masks[i]
        for i in range(2)
    ]
    assert changed[0].sum() > 100  # below the object at the upper edge
    assert changed[0][20:].any()
    assert changed[1].sum() > 100
    assert changed[1][:40].any()


def test_class_without_a_name():
    objects = Instances(np.ones((1, 20, 30), bool), classes=[2])
    with pytest.raises(ValueError, match=r"draw_instances: an object has class 2, .* 2 names"):
        plot.draw_instances(np.zeros((20, 30)), objects, classes=["a", "b"])
    plot.draw_instances(np.zeros((20, 30)), objects, classes=["a", "b"], scores=False)


# --- prompts -----------------------------------------------------------------------------


def is_color(picture, color):
    return (picture == np.asarray(color)).all(axis=-1)


@pytest.mark.parametrize("ground", [0, 90, 255])
@pytest.mark.parametrize("side", [100, 1000])
def test_points_inside_and_outside_differ_in_form_too(side, ground):
    image = np.full((side, side, 3), ground, np.uint8)
    center = side // 2
    drawn = [
        plot.draw_prompts(image, Prompts(points=[[center + 0.4, center]], point_labels=[label]))
        for label in (0, 1)
    ]
    cores = [is_color(picture, plot.label_colors(2)[i]) for i, picture in enumerate(drawn)]
    for picture, core in zip(drawn, cores, strict=True):
        assert core[center, center]
        assert core.sum() > 12 * max(side / 300, 1) ** 2
        assert picture[center].min(axis=-1).max() > 180  # a white rim, and a black one
        assert picture[center].max(axis=-1).min() < 120
        changed = (picture != ground).any(axis=-1)
        assert changed.any(axis=0).sum() < 0.15 * side
        assert np.array_equal(core, core[::-1][np.r_[-1, 0 : side - 1]])  # around the pixel
        assert np.array_equal(core, core.T)
    reach = np.flatnonzero(cores[1][center])[-1] - center
    assert not cores[0][center, center + reach]  # the cross has no arm there
    assert cores[1][center, center + reach]


def test_frame_lies_within_the_pixels_of_the_box():
    image = np.full((100, 120), 0.5)
    picture = plot.draw_prompts(image, Prompts(boxes=[[20.5, 30, 60, 90.2]]))
    rows, columns = np.nonzero(is_color(picture, plot.label_colors(2)[1]))
    assert (rows.min(), rows.max()) == (20, 59)
    assert (columns.min(), columns.max()) == (30, 90)
    assert is_color(picture[40:42, 50:52], (128, 128, 128)).all()  # empty inside
    at_edge = plot.draw_prompts(image, Prompts(boxes=[0, 0, 100, 120]))
    frame = is_color(at_edge, plot.label_colors(2)[1])
    assert frame[[0, -1]].all()
    assert frame[:, [0, -1]].all()


def test_scribbles_keep_their_pixels_and_ids():
    scribbles = np.full((90, 120), -1)
    scribbles[20, 10:60] = 3
    scribbles[40:43, 10:60] = scribbles[70, 70] = 0
    picture = plot.draw_prompts(np.full((90, 120), 0.5), Prompts(scribbles=scribbles))
    colors = plot.label_colors(4)
    for k in (0, 3):
        assert np.array_equal(is_color(picture, colors[k]), scribbles == k)
    assert is_color(picture[21, 10:60], (255, 255, 255)).all()
    assert (picture[80:] == 128).all()


def test_thin_scribbles_are_seen_in_a_large_image():
    scribbles = np.full((1500, 2000), -1)
    scribbles[700, 500:1500] = 2
    picture = plot.draw_prompts(np.zeros((1500, 2000)), Prompts(scribbles=scribbles))
    assert is_color(picture[:, 1000], plot.label_colors(3)[2]).sum() >= 5
    assert is_color(picture[:, 1000], (255, 255, 255)).sum() >= 8


def test_rough_mask_has_a_dashed_outline_and_shows_the_image():
    mask = np.zeros((100, 100), bool)
    mask[20:70, 30:80] = True
    image = RNG.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    picture = plot.draw_prompts(image, Prompts(mask=mask))
    assert np.array_equal(picture[~mask], image[~mask])
    side = picture[20, 30:80]
    assert 15 < is_color(side, (0, 0, 0)).sum() < 35
    assert is_color(side, (0, 0, 0)).sum() + is_color(side, (255, 255, 255)).sum() == 50
    inside = (picture[30:60, 40:70, 0].ravel(), image[30:60, 40:70, 0].ravel())
    assert np.corrcoef(*inside)[0, 1] > 0.99


def test_prompts_are_drawn_on_a_painted_picture(halves):
    painted = plot.overlay(np.zeros((5, 6)), halves)
    before = painted.copy()
    picture = plot.draw_prompts(painted, Prompts(points=[[1, 1]]))
    assert np.array_equal(painted, before)
    assert picture.shape == (5, 6, 3)
    assert (picture != painted).any()


def test_prompts_in_colors_of_ones_own():
    scribbles = np.full((50, 60), -1)
    scribbles[10:15, 10:50] = 1
    prompts = Prompts(scribbles=scribbles, points=[[40, 30]], point_labels=[0])
    picture = plot.draw_prompts(np.zeros((50, 60)), prompts, colors=[[1, 2, 3], [9, 8, 7]])
    assert (picture[12, 20].tolist(), picture[40, 30].tolist()) == ([9, 8, 7], [1, 2, 3])
    with pytest.raises(ValueError, match=r"draw_prompts: colors has shape \(1, 3\), .* at least 2"):
        plot.draw_prompts(np.zeros((50, 60)), prompts, colors=[[1, 2, 3]])
    with pytest.raises(ValueError, match="draw_prompts: colors is float64"):
        plot.draw_prompts(np.zeros((50, 60)), prompts, colors=np.ones((2, 3)))


def test_prompts_must_lie_on_the_image():
    image = np.zeros((20, 30))
    with pytest.raises(TypeError, match="draw_prompts: prompts is list, expected Prompts"):
        plot.draw_prompts(image, [[1, 2]])
    with pytest.raises(ValueError, match=r"draw_prompts: prompts\.points lie outside"):
        plot.draw_prompts(image, Prompts(points=[[25, 5]]))
    with pytest.raises(ValueError, match="draw_prompts: prompts have 6 numbers"):
        plot.draw_prompts(image, Prompts(boxes=[0, 0, 0, 5, 5, 5]))


# --- grids -------------------------------------------------------------------------------


def test_grid_has_a_row_a_method_and_a_column_an_image(tmp_path):
    images = [RNG.random((40, 60)), RNG.random((30, 60, 3))]
    rows = [
        [np.zeros((40, 60), int), np.ones((30, 60), int)],
        [two_objects(), np.eye(30, 60, dtype=int)],
    ]
    figure = plot.comparison_grid(images, rows, ["first", "second"], names=["a", "b"])
    assert len(figure.axes) == 6
    assert [figure.axes[i].get_ylabel() for i in (0, 2, 4)] == ["image", "first", "second"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    shown = figure.axes[5].images[0].get_array()
    assert np.array_equal(shown, plot.overlay(images[1], rows[1][1]))
    figure.savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_grid_names_what_does_not_fit():
    image, labels = np.zeros((4, 6)), np.zeros((4, 6), int)
    with pytest.raises(ValueError, match="got 1 rows and 2 titles"):
        plot.comparison_grid([image], [[labels]], ["a", "b"])
    with pytest.raises(ValueError, match="the row 'a' has 2 results for 1 images"):
        plot.comparison_grid([image], [[labels, labels]], ["a"])
    with pytest.raises(ValueError, match="2 names for 1 images"):
        plot.comparison_grid([image], [[labels]], ["a"], names=["x", "y"])
    with pytest.raises(ValueError, match="images is empty"):
        plot.comparison_grid([], [], [])


# --- training ----------------------------------------------------------------------------

HISTORY = [
    {"epoch": 1, "steps": 5, "loss": 0.9, "learning_rate": 0.01, "seconds": 1.5},
    {"epoch": 2, "steps": 10, "loss": 0.5, "learning_rate": 0.02, "seconds": 2.5, "score": 0.7},
    {"epoch": 3, "steps": 15, "loss": 0.4, "learning_rate": 0.01, "seconds": 4.0, "score": 0.8},
    {"epoch": 4, "steps": 20, "loss": 0.3, "learning_rate": 0.0, "seconds": 5.0, "score": 0.8},
    {"epoch": 5, "steps": 25, "loss": 0.3, "learning_rate": 0.0, "seconds": 6.0, "score": 0.6},
]


@pytest.mark.parametrize("x", ["epoch", "steps", "seconds"])
def test_curve_shows_each_value_where_it_is_known(x):
    axes = plot.learning_curve(HISTORY, x=x)
    loss, rate = axes.lines
    assert loss.get_xdata().tolist() == [row[x] for row in HISTORY]
    assert loss.get_ydata().tolist() == [0.9, 0.5, 0.4, 0.3, 0.3]
    assert rate.get_ydata().tolist() == [0.5, 1.0, 0.5, 0.0, 0.0]  # of the highest
    score, best = axes.figure.axes[1].lines
    assert score.get_xdata().tolist() == [row[x] for row in HISTORY[1:]]
    assert score.get_ydata().tolist() == [0.7, 0.8, 0.8, 0.6]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (HISTORY[3][x], 0.8)  # the later one
    assert axes.get_xlabel() == x
    assert len(axes.get_legend().get_texts()) == 3


def test_curve_of_the_loss_alone_is_drawn_where_asked_for(tmp_path):
    figure = plot.learning_curve([{"epoch": 1, "loss": 2.0}]).figure
    figure.savefig(tmp_path / "curve.png")  # one row is a point, not an invisible line
    axes = figure.subplots()
    assert plot.learning_curve([{"epoch": 1, "loss": 2.0}], axes) is axes
    assert axes.lines[0].get_marker() == "o"
    assert len(axes.lines) == 1


def test_curve_names_what_is_missing():
    with pytest.raises(ValueError, match="history is empty"):
        plot.learning_curve([])
    with pytest.raises(ValueError, match=r"history\[1\] has epoch, but no 'loss'"):
        plot.learning_curve([HISTORY[0], {"epoch": 2}])
    with pytest.raises(ValueError, match="x is 'loss'"):
        plot.learning_curve(HISTORY, x="loss")
