"""The detector against ultralytics' with the same weights, in torch and as ONNX."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.vision.yolo_v8 import YoloV8
from onnx.utils import extract_model
from safetensors.torch import save_file
from torch import nn
from torchvision.ops import batched_nms, box_iou
from yolo_detector.config import Config
from yolo_detector.model import Detector, build, export_graph
from yolo_detector.suppression import suppress
from yolo_detector.ultralytics_network import UltralyticsNetwork, quiet_ultralytics
from yolo_detector.weights import load_matching


def lively(network: nn.Module) -> nn.Module:
    """Gives a random network statistics and biases with which it detects something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, -1, 1)
            nn.init.normal_(module.weight, std=0.2)
    return network.eval()


def inputs(n: int, height: int, width: int, confidence: float = 0.2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(n)
    return {
        "images": random.integers(0, 256, (n, height, width, 3), dtype=np.uint8),
        "confidence": np.full(n, confidence, np.float32),
        "iou": np.full(n, 0.6, np.float32),
    }


def torch_outputs(detector: Detector, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [each.numpy() for each in detector(*map(torch.from_numpy, arrays.values()))]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return lively(YoloV8(3))


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    class Saved(SavedRun[Config]):
        def weights(self) -> dict[str, torch.Tensor]:
            return network.state_dict()

    folder = tmp_path_factory.mktemp("exported")
    saved = Saved(folder, Config(image_size=96), "cell-scenes", {"training": {"classes": ["a", "b", "c"]}})
    graph = export_graph(saved)
    write_onnx(graph, graph.metadata, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("shape", [(1, 96, 96), (3, 64, 96), (2, 160, 64), (1, 32, 32)])
def test_onnx_gives_what_torch_does_at_any_batch_and_size(
    network: nn.Module, exported: Path, shape: tuple[int, int, int]
) -> None:
    arrays = inputs(*shape)
    found = OnnxModel(exported, 1)(arrays)
    _, boxes, scores = torch_outputs(Detector(network), arrays)
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-5)
    # Of neighbors with equal scores a rounding decides which one is kept, so that the kept ones are held to the rule.
    for picture, rows in enumerate(found["detections"]):
        kept = torch.from_numpy(rows[rows[:, 4] > 0])
        assert len(kept) > 0
        assert float(kept[0, 4]) == pytest.approx(scores[picture].max(), abs=1e-4)
        for *box, score, label in kept.tolist():
            raw = boxes[picture][np.abs(scores[picture, int(label)] - score) < 1e-4]
            assert np.abs(raw - np.array(box)).max(-1).min() < 0.01
        for label in kept[:, 5].unique():
            same = kept[kept[:, 5] == label][:, :4]
            assert float(box_iou(same, same).fill_diagonal_(0).max()) < 0.6 + 1e-4
    assert found["detections"].shape == (shape[0], 300, 6)


def test_the_graph_can_be_cut_before_the_suppression(network: nn.Module, exported: Path, tmp_path: Path) -> None:
    extract_model(str(exported), str(tmp_path / "raw.onnx"), ["images"], ["boxes", "scores"])
    raw = OnnxModel(tmp_path / "raw.onnx", 1)
    assert [each.name for each in raw.inputs] == ["images"]
    arrays = inputs(2, 64, 64)
    _, boxes, scores = torch_outputs(Detector(network), arrays)
    found = raw({"images": arrays["images"]})
    np.testing.assert_allclose(found["boxes"], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-5)


def test_suppression_is_torchvisions_and_drops_by_each_pictures_own_confidence(network: nn.Module) -> None:
    arrays = inputs(2, 96, 96)
    arrays["confidence"] = np.array([0.2, 0.4], np.float32)
    detections, boxes, scores = map(torch.from_numpy, torch_outputs(Detector(network), arrays))
    for picture, least in enumerate(arrays["confidence"]):
        label, anchor = (scores[picture] > least).nonzero(as_tuple=True)
        kept = batched_nms(boxes[picture, anchor], scores[picture, label, anchor], label, 0.6)[:300]
        expected = torch.cat(
            [boxes[picture, anchor[kept]], scores[picture, label[kept], anchor[kept]][:, None], label[kept, None]], 1
        )
        assert len(kept) > 2
        torch.testing.assert_close(detections[picture, : len(kept)], expected)
        assert not detections[picture, len(kept) :].any()


def test_suppression_keeps_boxes_of_other_classes() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 0.0, 30.0, 10.0]]])
    scores = torch.tensor([[[0.9, 0.8, 0.3], [0.1, 0.7, 0.05]]])
    kept = suppress(boxes, scores, torch.tensor([0.5]), torch.tensor([0.2]))
    assert kept.tolist() == [[[pytest.approx(0.9), 0, pytest.approx(0.3)], [0, pytest.approx(0.7), 0]]]


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolov9t"])
def test_detections_before_suppression_equal_ultralytics(name: str) -> None:
    with quiet_ultralytics():
        from ultralytics.nn.tasks import DetectionModel
    theirs: Any = lively(DetectionModel(f"{name}.yaml", nc=3, verbose=False))
    ours = build(Config(model=name), 3)
    ours.load_state_dict(theirs.state_dict())
    arrays = inputs(2, 64, 96)
    _, boxes, scores = torch_outputs(Detector(ours.eval()), arrays)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).float() / 255)[0].numpy()
    center, size = expected[:, :2], expected[:, 2:4]
    corners = np.concatenate([center - size / 2, center + size / 2], 1).transpose(0, 2, 1)
    np.testing.assert_allclose(boxes, corners, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scores, expected[:, 4:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yolov99", "no such detector"),
        ("../secret", "no such detector"),
        ("http://127.0.0.1/yolo", "no such detector"),
        ("yolov10n", "its head is not YOLOv8's"),
        ("rtdetr-l", "its head is not YOLOv8's"),
        ("yolov8n-p6", "its cells are wider than 32 pixels"),
    ],
)
def test_other_detectors_are_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        UltralyticsNetwork(name, 3)


def test_weights_of_other_classes_are_taken_but_for_the_head(tmp_path: Path) -> None:
    of_five = lively(YoloV8(5))
    save_file(of_five.state_dict(), tmp_path / "five.safetensors")
    network = YoloV8(3)
    fresh = load_matching(network, tmp_path / "five.safetensors")
    assert fresh
    assert all(name.startswith("model.22.cv3") for name in fresh)
    torch.testing.assert_close(network.state_dict()["model.0.conv.weight"], of_five.state_dict()["model.0.conv.weight"])


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    config = Config(weights=str(tmp_path / "missing.safetensors"))
    with pytest.raises(UsageError, match="there is no such file"):
        build(config, 3)
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UsageError, match="not a file of safetensors"):
        build(replace(config, weights=str(tmp_path / "pickle.pt")), 3)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="only 0 of the network's"):
        build(replace(config, weights=str(tmp_path / "other.safetensors")), 3)
