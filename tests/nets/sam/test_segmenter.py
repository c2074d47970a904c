"""SAM as a segmenter: prompts in rows and columns, images of any kind, answers of one network."""

import copy
import gc

import numpy as np
import pytest
import torch

import segalgos
from segalgos import Instances, Prompts, SAMSegmenter
from segalgos.nets.sam import SAM, segmenter
from segalgos.nets.sam.embedded import Candidates, EmbeddedImage
from segalgos.nets.sam.frame import Frame
from segalgos.nets.sam.objects import clicks_along, objects_of


@pytest.fixture(scope="module")
def sam():
    """A small network whose masks depend on what it sees and where it is asked."""
    options = segmenter.UNTRAINED | {"decoder_heads": 8}
    return SAM(**options, generator=torch.Generator().manual_seed(5)).eval()


@pytest.fixture(scope="module")
def checkpoint(sam, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "weights.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)


def reference_masks(sam, image, points, labels, boxes=None, mask=None, multimask=True):
    """Masks in the order of the authors' predictor: resize, fill up, ask, enlarge, cut, enlarge."""
    scale = sam.image_size / max(image.shape[:2])
    height, width = (int(n * scale + 0.5) for n in image.shape[:2])
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (height, width), mode="bilinear", antialias=True)
    ratio = np.array([width / image.shape[1], height / image.shape[0]])  # x, y
    with torch.no_grad():
        embedding = sam.image_encoder(sam.preprocess(x))
        low, ious = sam.predict_masks(
            embedding,
            None if points is None else torch.tensor(points * ratio)[None].float(),
            None if labels is None else torch.tensor(labels)[None],
            None if boxes is None else torch.tensor(boxes.reshape(-1, 2) * ratio).reshape(1, 4),
            mask,
            multimask,
        )
        large = torch.nn.functional.interpolate(low, (sam.image_size,) * 2, mode="bilinear")
        large = large[..., :height, :width]
        large = torch.nn.functional.interpolate(large, image.shape[:2], mode="bilinear")
    return large[0].numpy(), ious[0].numpy(), low


# --- what is predicted --------------------------------------------------------------------


def test_a_click_gives_the_best_of_three_masks(sam, checkpoint, image):
    expected, ious, _ = reference_masks(sam, image, np.array([[33.0, 12.0]]), [1])
    found = SAMSegmenter(checkpoint).predict(image, prompts=Prompts(points=[[12, 33]]))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected[ious.argmax()] > 0)
    assert 0.02 < found.mean() < 0.98


def test_several_clicks_and_boxes_give_the_mask_for_clear_prompts(sam, checkpoint, image):
    points, labels = np.array([[33.0, 12.0], [70.5, 40.0]]), [1, 0]
    model = SAMSegmenter(checkpoint)
    expected, _, _ = reference_masks(sam, image, points, labels, multimask=False)
    found = model.predict(image, prompts=Prompts(points[:, ::-1], labels))
    np.testing.assert_array_equal(found, expected[0] > 0)
    box = np.array([20.0, 5.0, 80.0, 50.0])  # x0, y0, x1, y1
    expected, _, _ = reference_masks(sam, image, points, labels, box, multimask=False)
    prompts = Prompts(points[:, ::-1], labels, boxes=box[[1, 0, 3, 2]])
    np.testing.assert_array_equal(model.predict(image, prompts=prompts), expected[0] > 0)
    expected, _, _ = reference_masks(sam, image, None, None, box, multimask=False)
    prompts = Prompts(boxes=box[[1, 0, 3, 2]])
    np.testing.assert_array_equal(model.predict(image, prompts=prompts), expected[0] > 0)


def test_multimask_can_be_set(sam, checkpoint, image):
    points = np.array([[33.0, 12.0]])
    prompts = Prompts(points[:, ::-1])
    expected, _, _ = reference_masks(sam, image, points, [1], multimask=False)
    found = SAMSegmenter(checkpoint, multimask=False).predict(image, prompts=prompts)
    np.testing.assert_array_equal(found, expected[0] > 0)
    more = Prompts([[12, 33], [40, 70]])
    expected, ious, _ = reference_masks(sam, image, more.points[:, ::-1], [1, 1])
    found = SAMSegmenter(checkpoint, multimask=True).predict(image, prompts=more)
    np.testing.assert_array_equal(found, expected[ious.argmax()] > 0)


@pytest.mark.parametrize("n", [1, 2])
def test_refinement_hands_the_mask_back(sam, checkpoint, image, n):
    points = np.array([[33.0, 12.0]])
    _, ious, low = reference_masks(sam, image, points, [1])
    mask = low[:, ious.argmax()][:, None]
    for _ in range(n):
        expected, _, mask = reference_masks(sam, image, points, [1], mask=mask, multimask=False)
    model = SAMSegmenter(checkpoint, n_refinements=n)
    found = model.predict(image, prompts=Prompts(points=[[12, 33]]))
    np.testing.assert_array_equal(found, expected[0] > 0)


def test_instances_have_an_object_a_box(sam, checkpoint, image):
    boxes = np.array([[5, 20, 50, 80], [0, 0, 60, 90.0]])
    model = SAMSegmenter(checkpoint, output="instances")
    found = model.predict(image, prompts=Prompts(boxes=boxes))
    assert isinstance(found, Instances)
    assert found.classes.tolist() == [1, 2]
    highest, expected_labels = np.zeros((60, 90)), np.zeros((60, 90), int)
    for i, box in enumerate(boxes):
        expected, ious, _ = reference_masks(
            sam, image, None, None, box[[1, 0, 3, 2]], multimask=False
        )
        np.testing.assert_array_equal(found.masks[i], expected[0] > 0)
        assert found.scores[i] == pytest.approx(ious[0], abs=1e-5)
        on_top = expected[0] > highest
        expected_labels[on_top], highest = i + 1, np.maximum(highest, expected[0])
    labels = SAMSegmenter(checkpoint).predict(image, prompts=Prompts(boxes=boxes))
    assert (labels != expected_labels).mean() < 1e-3  # but for ties of rounded logits


def test_instances_end_at_the_mask(checkpoint, image):
    mask = np.zeros((60, 90), bool)
    mask[:, :45] = True
    prompts = Prompts(boxes=[0, 0, 60, 90])
    model = SAMSegmenter(checkpoint, output="instances")
    whole = model.predict(image, prompts=prompts)
    cut = model.predict(image, prompts=prompts, mask=mask)
    np.testing.assert_array_equal(cut.masks, whole.masks & mask)
    assert cut.boxes[0, 3] <= 45
    assert cut.scores == whole.scores


def test_a_rough_mask_is_refined(sam, checkpoint, image):
    rough = np.zeros((60, 90), bool)
    rough[10:40, 20:70] = True
    model = SAMSegmenter(checkpoint)
    found = model.predict(image, prompts=Prompts(mask=rough))
    low = Frame((60, 90), 128, 32).logits_of(rough)
    box = np.array([20.0, 10.0, 70.0, 40.0])  # the box around it is a prompt too
    expected, _, _ = reference_masks(sam, image, None, None, box, low, multimask=False)
    np.testing.assert_array_equal(found, expected[0] > 0)
    prompts = Prompts(points=[[12, 33]], mask=rough)  # a click takes the place of the box
    point = np.array([[33.0, 12.0]])
    expected, _, _ = reference_masks(sam, image, point, [1], mask=low, multimask=False)
    np.testing.assert_array_equal(model.predict(image, prompts=prompts), expected[0] > 0)


def test_nothing_pointed_at_is_nothing_found(checkpoint, image):
    for prompts in (
        Prompts(points=[]),
        Prompts(points=[[3, 4]], point_labels=[0]),
        Prompts(scribbles=np.full((60, 90), -1)),
        Prompts(boxes=np.empty((0, 4))),
    ):
        assert not SAMSegmenter(checkpoint).predict(image, prompts=prompts).any()
        found = SAMSegmenter(checkpoint, output="instances").predict(image, prompts=prompts)
        assert found.masks.shape == (0, 60, 90)


def test_prompts_outside_the_image_are_refused(checkpoint, image):
    model = SAMSegmenter(checkpoint)
    embedded = model.embed(image)
    for ask in (lambda p: model.predict(image, prompts=p), embedded.predict, embedded.candidates):
        with pytest.raises(ValueError, match=r"SAMSegmenter.*points lie outside the image"):
            ask(Prompts(points=[[60, 3]]))
        with pytest.raises(ValueError, match=r"SAMSegmenter.*boxes reach outside the image"):
            ask(Prompts(boxes=[-1, 0, 5, 5]))


# --- an image seen once -------------------------------------------------------------------


def test_candidates_and_what_is_handed_back(sam, checkpoint, image):
    embedded = SAMSegmenter(checkpoint).embed(image)
    assert isinstance(embedded, EmbeddedImage)
    assert embedded.shape == (60, 90)
    prompts = Prompts(points=[[12, 33]])
    found = embedded.candidates(prompts)
    assert isinstance(found, Candidates)
    expected, ious, low = reference_masks(sam, image, np.array([[33.0, 12.0]]), [1])
    order = np.argsort(-ious)
    np.testing.assert_array_equal(found.instances.masks, expected[order] > 0)
    np.testing.assert_allclose(found.instances.scores, ious[order], atol=1e-5)
    np.testing.assert_allclose(found.low_res, low[0].numpy()[order], atol=1e-4)
    again = embedded.candidates(prompts, low_res=found.low_res[1])
    mask = torch.from_numpy(found.low_res[1])
    expected, ious, _ = reference_masks(sam, image, np.array([[33.0, 12.0]]), [1], mask=mask)
    np.testing.assert_allclose(again.instances.scores, np.sort(ious)[::-1], atol=1e-5)
    np.testing.assert_array_equal(
        embedded.predict(prompts), SAMSegmenter(checkpoint).predict(image, prompts=prompts)
    )


def test_candidates_are_of_one_object(checkpoint, image):
    embedded = SAMSegmenter(checkpoint).embed(image)
    for prompts, n in (
        (Prompts(boxes=[[0, 0, 9, 9], [5, 5, 9, 9]]), 2),
        (Prompts(points=[[1, 1]], point_labels=[0]), 0),
    ):
        with pytest.raises(ValueError, match=f"prompts point at {n} objects, expected one"):
            embedded.candidates(prompts)
    with pytest.raises(ValueError, match=r"low_res has shape \(3, 3\), expected finite logits"):
        embedded.candidates(Prompts(points=[[1, 1]]), low_res=np.zeros((3, 3)))


def test_images_are_embedded_once_and_known_by_what_they_hold(checkpoint, image, monkeypatch):
    seen = []
    embed = segmenter.embed_image
    monkeypatch.setattr(segmenter, "embed_image", lambda b, i: seen.append(1) or embed(b, i))
    model = SAMSegmenter(checkpoint)
    prompts = Prompts(points=[[12, 33]])
    first = model.predict(image, prompts=prompts)
    model.predict(image.copy(), prompts=Prompts(points=[[40, 33]]))
    assert len(seen) == 1
    changed = image.copy()
    changed[20:] = 0
    assert (model.predict(changed, prompts=prompts) != first).any()
    assert len(seen) == 2
    for i in range(segmenter.IMAGES_KEPT):
        model.embed(np.full((9, 9), i + 1.5))
    assert len(seen) == 2 + segmenter.IMAGES_KEPT
    np.testing.assert_array_equal(model.predict(image, prompts=prompts), first)
    assert len(seen) == 3 + segmenter.IMAGES_KEPT  # it had been forgotten


def test_segmenters_share_a_network_and_let_go_of_it(checkpoint, image):
    prompts = Prompts(points=[[12, 33]])
    one, other = SAMSegmenter(checkpoint), SAMSegmenter(checkpoint, n_refinements=1)
    one.predict(image, prompts=prompts)
    other.predict(image, prompts=prompts)
    assert one._runtime().backend is other._runtime().backend
    keys = [key for key in segmenter._backends if key[0] and key[0][0][0] == str(checkpoint)]
    assert len(keys) == 1
    del one, other
    gc.collect()
    assert keys[0] not in segmenter._backends


def test_another_file_under_the_name_is_read_anew(sam, tmp_path, image):
    path = tmp_path / "weights.pth"
    torch.save(sam.state_dict(), path)
    model, prompts = SAMSegmenter(path), Prompts(points=[[12, 33]])
    first = model.predict(image, prompts=prompts)
    other = copy.deepcopy(sam)
    other.reset_parameters(torch.Generator().manual_seed(9))
    path.unlink()
    torch.save({**other.state_dict()}, path)
    assert (model.predict(image, prompts=prompts) != first).any()


def test_saved_and_loaded(checkpoint, image, tmp_path):
    model = SAMSegmenter(checkpoint, n_refinements=1)
    model.save(tmp_path / "sam.segalgos")
    assert (tmp_path / "sam.segalgos").stat().st_size < 10_000  # it names the checkpoint
    loaded = segalgos.load(tmp_path / "sam.segalgos")
    prompts = Prompts(points=[[12, 33]])
    np.testing.assert_array_equal(
        loaded.predict(image, prompts=prompts), model.predict(image, prompts=prompts)
    )


# --- images of all kinds ------------------------------------------------------------------


def test_intensities_are_read_by_value(checkpoint, image):
    model, prompts = SAMSegmenter(checkpoint), Prompts(points=[[12, 33]])
    expected = model.predict(image, prompts=prompts)
    for same in (image.astype(float), image / 255, (image.astype(np.uint16) * 257)):
        assert (model.predict(same, prompts=prompts) != expected).mean() < 2e-3
    dark = SAMSegmenter(checkpoint, data_range=1000.0)
    np.testing.assert_array_equal(
        dark.predict(image.astype(float), prompts=prompts),
        model.predict((image * np.float32(0.255)) / 255, prompts=prompts),
    )


def test_channels(checkpoint, image):
    model, prompts = SAMSegmenter(checkpoint), Prompts(points=[[12, 33]])
    grey, two = image[..., 0], image[..., :2]

    def equal(one, other):
        np.testing.assert_array_equal(
            model.predict(one, prompts=prompts), model.predict(other, prompts=prompts)
        )

    equal(grey, np.stack([grey] * 3, axis=-1))
    mean = two.mean(axis=-1, keepdims=True)
    equal(two, np.concatenate([two, mean], axis=-1).astype(np.float32))
    equal(np.concatenate([image, np.full((60, 90, 1), 255, np.uint8)], axis=-1), image)
    many = SAMSegmenter(checkpoint, channel_axis=-1)
    with pytest.raises(ValueError, match="image has 5 channels, expected 4 at most: choose those"):
        many.predict(np.zeros((9, 9, 5)), prompts=prompts)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 2), (128, 128), (33, 200), (300, 299)])
def test_any_size(sam, checkpoint, shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    point = [shape[0] // 2, shape[1] // 2]
    found = SAMSegmenter(checkpoint).predict(image, prompts=Prompts(points=[point]))
    assert found.shape == shape
    if min(shape) > 2:
        expected, ious, _ = reference_masks(sam, image, np.array([point[::-1]], float), [1])
        np.testing.assert_array_equal(found, expected[ious.argmax()] > 0)


# --- without a checkpoint -----------------------------------------------------------------


def test_no_checkpoint_is_an_error_that_names_the_remedy(image):
    prompts = Prompts(points=[[12, 33]])
    message = r"checkpoint is None, .* by `segalgos data download sam_vit_b --root DIR`"
    with pytest.raises(ValueError, match=message):
        SAMSegmenter().predict(image, prompts=prompts)
    with pytest.raises(ValueError, match=message):
        SAMSegmenter().segment_everything(image)
    with pytest.raises(ValueError, match=message):
        SAMSegmenter().embed(image)
    with pytest.raises(FileNotFoundError, match=r"checkpoint nowhere\.pth does not exist"):
        SAMSegmenter("nowhere.pth").predict(image, prompts=prompts)
    with pytest.raises(ValueError, match="there is a checkpoint, and untrained is True"):
        SAMSegmenter("nowhere.pth", untrained=True).predict(image, prompts=prompts)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"multimask": "never"}, ValueError, "multimask is 'never', expected"),
        ({"n_refinements": -1}, ValueError, "n_refinements"),
        ({"output": "masks"}, ValueError, "output"),
        ({"precision": "int8"}, ValueError, "precision"),
        ({"untrained": 1}, TypeError, "untrained is 1, expected True or False"),
        ({"checkpoint": 3, "untrained": False}, TypeError, "checkpoint is 3, expected a path"),
        ({"checkpoint": ("a", "b", "c"), "untrained": False}, TypeError, "pair of paths"),
        ({"device": "moon"}, ValueError, "device is 'moon', which is not here"),
        ({"data_range": 0}, ValueError, "data_range"),
    ],
)
def test_bad_parameters(image, params, error, message):
    model = SAMSegmenter(**({"untrained": True} | params))
    with pytest.raises(error, match=f"SAMSegmenter: .*{message}"):
        model.predict(image, prompts=Prompts(points=[[12, 33]]))


# --- prompts, sorted by object ------------------------------------------------------------


def test_scribbles_become_clicks():
    scribble = np.zeros((100, 200), bool)
    scribble[50, 20:181] = True
    clicks = clicks_along(scribble)
    assert len(clicks) == 8
    assert all(scribble[int(r), int(c)] for r, c in clicks)
    assert {20.0, 180.0} <= set(clicks[:, 1])
    apart = np.abs(clicks[:, None, 1] - clicks[None, :, 1])[~np.eye(8, dtype=bool)]
    assert apart.min() > 200 / 32
    dab = np.hypot(*(np.indices((100, 200)) - np.array([30, 40])[:, None, None])) <= 5
    np.testing.assert_array_equal(clicks_along(dab), [[30, 40]])


def test_each_id_of_scribbles_is_an_object(checkpoint, image):
    scribbles = np.full((60, 90), -1)
    for label, place in ((0, (5, 5)), (3, (30, 20)), (7, (30, 70))):
        scribbles[place] = label
    found = objects_of(Prompts(scribbles=scribbles), "test")
    assert [one.label for one in found] == [3, 7]
    assert found[0].points.tolist() == [[30, 20], [5, 5], [30, 70]]
    assert found[0].point_labels.tolist() == [1, 0, 0]
    assert not found[0].ambiguous
    labels = SAMSegmenter(checkpoint).predict(image, prompts=Prompts(scribbles=scribbles))
    assert set(np.unique(labels)) <= {0, 3, 7}


def test_what_belongs_to_which_object():
    mask = np.zeros((9, 9), bool)
    mask[2:4, 5:8] = True

    def sort(**prompts):
        return objects_of(Prompts(**prompts), "test")

    (one,) = sort(points=[[1, 2]])
    assert one.ambiguous
    assert not one.has_box
    (one,) = sort(points=[[1, 2], [3, 4]], point_labels=[1, 0], boxes=[0, 1, 5, 6])
    assert one.points.tolist() == [[1, 2], [3, 4], [0, 1], [5, 6]]
    assert one.point_labels.tolist() == [1, 0, 2, 3]
    assert one.has_box
    first, second = sort(points=[[3, 4]], point_labels=[0], boxes=[[0, 1, 5, 6], [2, 2, 3, 3]])
    assert (first.label, second.label) == (1, 2)
    assert second.points.tolist() == [[3, 4], [2, 2], [3, 3]]
    (one,) = sort(mask=mask, points=[[8, 8]], point_labels=[0])
    assert one.points.tolist() == [[8, 8], [2, 5], [4, 8]]
    assert one.mask is not None
    with pytest.raises(ValueError, match=r"test: prompts hold 2 boxes, an object each, and points"):
        sort(points=[[1, 2]], boxes=[[0, 1, 5, 6], [2, 2, 3, 3]])
    scribbles = np.full((9, 9), -1)
    scribbles[1, 1], scribbles[5, 5] = 1, 2
    for more in ({"mask": mask}, {"boxes": [0, 0, 3, 3]}):
        with pytest.raises(ValueError, match=r"scribbles with the ids \[1, 2\]"):
            sort(scribbles=scribbles, **more)
