"""SAM as a pair of ONNX files, run by onnxruntime, against the network they were made from."""

import importlib.util

import numpy as np
import pytest
import torch

from segalgos import Prompts, SAMSegmenter
from segalgos.nets.sam import SAM, export
from segalgos.nets.sam.export import export_onnx
from segalgos.nets.sam.segmenter import UNTRAINED

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def sam():
    options = UNTRAINED | {"decoder_heads": 8}
    return SAM(**options, generator=torch.Generator().manual_seed(5)).eval()


@pytest.fixture(scope="module")
def folder(sam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    torch.save(sam.state_dict(), folder / "weights.pth")
    export_onnx(sam, folder / "encoder.onnx", folder / "decoder.onnx")
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    return folder / "encoder.onnx", folder / "decoder.onnx"


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)


def run(path, **inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    arrays = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, arrays)))


def test_layout(pair):
    def names(values):
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
                for v in values}  # fmt: skip

    encoder, decoder = (onnx.load(path).graph for path in pair)
    assert names(encoder.input) == {"image": [1, 3, 128, 128]}
    assert names(encoder.output) == {"image_embeddings": [1, 32, 8, 8]}
    assert names(decoder.input) == {
        "image_embeddings": [1, 32, 8, 8],
        "point_coords": [1, "num_points", 2],
        "point_labels": [1, "num_points"],
        "mask_input": [1, 1, 32, 32],
        "has_mask_input": [1],
        "orig_im_size": [2],
    }
    found = names(decoder.output)
    assert list(found) == ["masks", "iou_predictions", "low_res_masks"]
    assert found["masks"][2:] == ["height", "width"]
    assert found["low_res_masks"] == [1, 4, 32, 32]


def test_graphs_equal_the_network(sam, pair):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 3, 128, 128)).astype(np.float32)
    embedding = run(pair[0], image=x)["image_embeddings"]
    with torch.no_grad():
        expected = sam.image_encoder(torch.from_numpy(x))
    np.testing.assert_allclose(embedding, expected, atol=1e-4)
    for size, n, with_mask in [((60, 90), 1, False), ((200, 77), 4, True), ((128, 1), 2, True)]:
        points = rng.uniform(0, 128, (1, n, 2)).astype(np.float32)
        labels = rng.integers(0, 2, (1, n))
        mask = rng.normal(size=(1, 1, 32, 32)).astype(np.float32)
        found = run(
            pair[1],
            image_embeddings=embedding,
            point_coords=np.concatenate([points, np.zeros((1, 1, 2))], axis=1),
            point_labels=np.concatenate([labels, [[-1]]], axis=1),
            mask_input=mask,
            has_mask_input=[float(with_mask)],
            orig_im_size=size,
        )
        for multimask, some in ((True, slice(1, None)), (False, slice(0, 1))):
            with torch.no_grad():
                low, ious = sam.predict_masks(
                    expected,
                    points,
                    labels,
                    mask=mask if with_mask else None,
                    multimask=multimask,
                )
            np.testing.assert_allclose(found["low_res_masks"][:, some], low, atol=2e-3)
            np.testing.assert_allclose(found["iou_predictions"][:, some], ious, atol=1e-3)
        low = torch.from_numpy(found["low_res_masks"])
        large = torch.nn.functional.interpolate(low, (128, 128), mode="bilinear")
        height, width = (int(s * 128 / max(size) + 0.5) for s in size)
        large = large[..., :height, :width]
        large = torch.nn.functional.interpolate(large, size, mode="bilinear")
        np.testing.assert_allclose(found["masks"], large, atol=1e-4)


def test_the_segmenter_takes_the_pair(folder, pair, image):
    network, files = SAMSegmenter(folder / "weights.pth"), SAMSegmenter(pair)
    rough = np.zeros((60, 90), bool)
    rough[10:30, 20:50] = True
    for prompts in (
        Prompts(points=[[12, 33]]),
        Prompts(points=[[12, 33], [40, 50]], point_labels=[1, 0], boxes=[5, 5, 50, 80]),
        Prompts(mask=rough),
    ):
        expected = network.predict(image, prompts=prompts)
        assert (files.predict(image, prompts=prompts) != expected).mean() < 1e-3
        one, other = (m.embed(image).candidates(prompts) for m in (network, files))
        np.testing.assert_allclose(one.instances.scores, other.instances.scores, atol=1e-3)
        again, refined = (
            m.embed(image).candidates(prompts, low_res=one.low_res[0]) for m in (network, files)
        )
        np.testing.assert_allclose(again.low_res, refined.low_res, atol=1e-2)


def test_it_is_saved_as_a_pair_of_names(pair, image, tmp_path):
    import segalgos

    model, prompts = SAMSegmenter(pair, n_refinements=1), Prompts(points=[[12, 33]])
    model.save(tmp_path / "sam.segalgos")
    loaded = segalgos.load(tmp_path / "sam.segalgos")
    np.testing.assert_array_equal(
        loaded.predict(image, prompts=prompts), model.predict(image, prompts=prompts)
    )


def test_a_decoder_of_one_mask(sam, folder, image):
    class One(export._Decoder):
        def forward(self, *inputs):
            masks, ious, low = super().forward(*inputs)
            return masks[:, 2:3], ious[:, 2:3], low[:, 2:3]

    original, export._Decoder = export._Decoder, One
    try:
        export_onnx(sam, folder / "encoder.onnx", folder / "one.onnx")
    finally:
        export._Decoder = original
    embedded = SAMSegmenter((folder / "encoder.onnx", folder / "one.onnx")).embed(image)
    prompts = Prompts(points=[[12, 33]])
    (score,) = embedded.candidates(prompts).instances.scores
    all_of_them = SAMSegmenter(folder / "weights.pth").embed(image).candidates(prompts).instances
    assert np.abs(all_of_them.scores - score).min() < 1e-3
    assert embedded.predict(prompts).shape == (60, 90)
    assert embedded.click_each(np.array([[1.0, 2], [3, 4]]))[0].shape == (2, 1, 32, 32)


def test_other_files_are_refused(folder, pair, image, tmp_path, monkeypatch):
    prompts = Prompts(points=[[12, 33]])

    def refuses(checkpoint, error, message):
        with pytest.raises(error, match=f"SAMSegmenter: {message}"):
            SAMSegmenter(checkpoint).predict(image, prompts=prompts)

    refuses(pair[::-1], ValueError, r".*decoder\.onnx takes .*expected one image")
    refuses((pair[0], pair[0]), ValueError, r".*encoder\.onnx has no image_embeddings, point_")
    refuses((pair[0], tmp_path / "a.onnx"), FileNotFoundError, r".*a\.onnx does not exist")
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    refuses((pair[0], tmp_path / "a.onnx"), ValueError, r".*a\.onnx is damaged or no ONNX file")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name)
    )
    copies = [(tmp_path / path.name) for path in pair]
    for path, copy in zip(pair, copies):
        copy.write_bytes(path.read_bytes())
    refuses(tuple(copies), ImportError, r"onnxruntime is not installed.*segalgos\[onnx\]")
    with pytest.raises(ImportError, match=r"onnx is not installed: pip install 'segalgos\[onnx\]'"):
        export_onnx(SAM(**UNTRAINED), tmp_path / "e.onnx", tmp_path / "d.onnx")
