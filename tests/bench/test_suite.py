import json

import pytest

from segalgos import catalog
from segalgos.bench.cell import make_segmenter
from segalgos.bench.suite import (
    QUICK,
    Cell,
    DataChoice,
    Method,
    make_cells,
    parse_data,
    parse_methods,
    settings_to_try,
)
from segalgos.contours.ucm import CONTOURS


def test_methods_by_name_family_and_parameters():
    methods = parse_methods("slic[n_segments=100, compactness=1.5],graph,kmeans")
    assert [m.label for m in methods] == [
        "slic[n_segments=100, compactness=1.5]",
        *(entry.key for entry in catalog.ENTRIES if entry.family == "graph"),
        "kmeans",
    ]
    assert methods[0].params == {"n_segments": 100, "compactness": 1.5}
    assert methods[0].load().__name__ == "SLICSegmenter"


def test_all_is_every_installed_method():
    keys = [entry.key for entry in catalog.ENTRIES if entry.installed]
    assert [m.target for m in parse_methods("all")] == keys
    semantic = [e.key for e in catalog.ENTRIES if e.task == "semantic" and e.installed]
    assert [m.target for m in parse_methods("semantic")] == semantic
    quick = [method.target for method in parse_methods(None)]
    assert quick == [name for name in QUICK if name in keys]
    assert len({catalog.get_entry(name).family for name in QUICK}) == 4


def test_settings_are_tried_where_the_user_left_them_open():
    assert settings_to_try("SLICSegmenter", {"compactness": 2.0}) == {"n_segments": (12, 50, 250)}
    assert settings_to_try("SLICSegmenter", {"n_segments": 9}) == {}
    for name in ("NormalizedCutsSegmenter", "UCMSegmenter"):
        assert len(settings_to_try(name, {"n_segments": None})) == 1
        assert settings_to_try(name, {"n_segments": 9}) == {}
    assert settings_to_try("UCMSegmenter", {"min_area": 9}) == {}
    assert settings_to_try("RandomForestSegmenter", {}) == {}


@pytest.mark.parametrize("name", CONTOURS)
def test_levels_that_are_tried_suit_the_contours(name):
    (levels,) = settings_to_try("UCMSegmenter", {"contours": name}).values()
    assert levels[0] < levels[1] == CONTOURS[name].level < levels[2]
    assert settings_to_try("UCMSegmenter", {"contours": name, "level": 1}) == {}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("kmean", "did you mean 'kmeans'"),
        ("kmeans[k=3]", "no parameter 'k': choose from .*n_clusters"),
        ("kmeans[n_clusters=]", "cannot be read"),
        ("kmeans[__import__('os')]", "a value without a name"),
        ("kmeans[n_clusters=open('x')]", "cannot be read"),
        ("no_such_module:Class", "cannot be imported"),
        ("kmeans]", "expected names like"),
    ],
)
def test_bad_methods_say_what_is_wrong(text, match):
    with pytest.raises(ValueError, match=match):
        parse_methods(text)


def test_a_class_that_is_no_segmenter_is_refused():
    with pytest.raises(TypeError, match="is no Segmenter class"):
        Method("x", "json:JSONDecoder").load()


def test_data_by_name_folder_and_default(tmp_path):
    assert [d.label for d in parse_data(None)] == ["shapes", "pins"]
    noisy, folder = parse_data(f"shapes[noise=0.2, n_images=3],{tmp_path}")
    assert (noisy.name, noisy.options) == ("shapes", {"noise": 0.2, "n_images": 3})
    assert (folder.name, folder.root) == ("folder", str(tmp_path))
    with pytest.raises(ValueError, match="neither a data set"):
        parse_data("no_such_set")


def test_cells_cross_methods_and_seeds():
    methods, data = parse_methods("kmeans,felzenszwalb"), [DataChoice("shapes", "shapes")]
    cells, left_out = make_cells(methods, data, seeds=3)
    assert [(c.method.label, c.seed) for c in cells] == [
        ("kmeans", 0),
        ("kmeans", 1),
        ("kmeans", 2),
        ("felzenszwalb", 0),  # nothing random: once is enough
    ]
    assert not left_out
    assert {(c.fit_split, c.test_split) for c in cells} == {("train", "test")}


def test_a_key_changes_with_the_cell_and_survives_the_journey():
    cell = Cell(Method("kmeans", "kmeans"), DataChoice("shapes", "shapes"), 0, "train", "test", 20)
    again = Cell.from_dict(json.loads(json.dumps(cell.to_dict())))
    assert again == cell
    assert again.key == cell.key
    others = [
        Cell(cell.method, cell.data, 1, "train", "test", 20),
        Cell(cell.method, cell.data, 0, "train", "val", 20),
        Cell(cell.method, cell.data, 0, "train", "test", 21),
        Cell(Method("kmeans", "kmeans", {"n_clusters": 3}), cell.data, 0, "train", "test", 20),
        Cell(
            cell.method, DataChoice("shapes", "shapes", None, {"noise": 1}), 0, "train", "test", 20
        ),
    ]
    assert len({cell.key, *(other.key for other in others)}) == 6


@pytest.mark.parametrize("estimator", ["random_forest", "pixel_classifier"])
def test_an_estimator_named_is_made_with_the_seed(estimator):
    text = f"boundary_instances[estimator='{estimator}',border_width=2]"
    (method,) = parse_methods(text)
    cell = Cell(method, DataChoice("shapes", "shapes"), 3, "train", "test", 20)
    segmenter = make_segmenter(method.load(), method.params, cell)
    assert type(segmenter.estimator) is catalog.get_segmenter(estimator)
    assert (segmenter.random_state, segmenter.estimator.random_state) == (3, 3)
    assert segmenter.border_width == 2


@pytest.mark.skipif(not catalog.get_entry("unet").installed, reason="needs torch")
def test_a_network_within_another_method_gets_preset_and_budget():
    (method,) = parse_methods("boundary_instances")
    cell = Cell(method, DataChoice("shapes", "shapes"), 0, "train", "test", 20)
    net = make_segmenter(method.load(), method.params, cell).estimator
    assert (net.time_budget, net.epochs, net.base_channels) == (20, None, 8)


@pytest.mark.parametrize(
    "key", [e.key for e in catalog.ENTRIES if e.family == "nets" and e.task != "interactive"]
)
def test_networks_learn_until_their_budget_ends(key):
    pytest.importorskip("torch", reason="networks need torch")
    (method,) = parse_methods(key)
    cell = Cell(method, DataChoice("shapes", "shapes"), 0, "train", "test", 20)
    segmenter = make_segmenter(method.load(), method.params, cell)
    assert (segmenter.time_budget, segmenter.epochs) == (20, None)
    segmenter._check_params()
