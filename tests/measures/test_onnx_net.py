"""A user's own feature net: what it sees is what its description says, and what comes with it is not run or read."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from components.gan.errors import UserError
from components.measures.onnx_net import OnnxDescription, OnnxNet
from tests.harness.onnx_files import DESCRIBED, model, weights


def net(content: bytes | None = None, **changes: Any) -> OnnxNet:
    described = OnnxDescription.model_validate(DESCRIBED | changes)
    return OnnxNet(model().SerializeToString() if content is None else content, described)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seen(image: torch.Tensor) -> torch.Tensor:
    """What torch sees by the same weights, of images as the net expects them."""
    return F.relu(F.conv2d(image, torch.from_numpy(weights()), stride=4)).mean((2, 3))


def test_it_sees_what_torch_sees(image: torch.Tensor) -> None:
    assert torch.allclose(net().features(image), seen((image + 1) / 2), atol=1e-5)
    # A layer before the last, whose mean over places is taken.
    assert torch.allclose(net(layer="places").features(image), seen((image + 1) / 2), atol=1e-5)


def test_range_normalisation_and_channels_are_those_described(image: torch.Tensor) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    wanted = ((image + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(net(mean=mean, std=std).features(image), seen(wanted), atol=1e-4)
    assert torch.allclose(net(range=[0, 255]).features(image), seen((image + 1) * 127.5), atol=1e-2)
    assert torch.allclose(net(channels="bgr").features(image), seen((image.flip(1) + 1) / 2), atol=1e-5)
    grey = image[:, :1]
    assert torch.allclose(net().features(grey), seen((grey.expand(-1, 3, -1, -1) + 1) / 2), atol=1e-5)
    clear = torch.cat([image, -torch.ones_like(grey)], 1)
    assert torch.allclose(net().features(clear), seen(torch.full_like(image, 0.5)), atol=1e-5)
    large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert net().features(large).shape == (5, 12)


def test_it_travels_and_takes_any_number_at_a_time(image: torch.Tensor) -> None:
    expected = net().features(image)
    assert torch.equal(pickle.loads(pickle.dumps(net())).features(image), expected)
    fixed = net(model(2).SerializeToString())
    assert torch.allclose(fixed.features(image), expected, atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_weights_in_other_files_are_refused(nested: bool) -> None:
    """Also in a graph within the graph; such a file could name any file of the machine."""
    found = model()
    if nested:
        inner = onnx.helper.make_graph([], "inner", [], [])
        inner.initializer.add()
        found.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", inner))
        tensor = found.graph.node[0].attribute[-1].g.initializer[0]
    else:
        tensor = found.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(UserError, match="one self-contained file"):
        net(found.SerializeToString())


def test_what_is_no_feature_net_is_one_sentence() -> None:
    with pytest.raises(UserError, match="not an ONNX file"):
        net(b"\x08\x00junk")
    with pytest.raises(UserError, match="no tensor 'nothing'; its outputs are logits"):
        net(layer="nothing")
    with pytest.raises(UserError, match="cannot see such images"):
        net(size=24)
    custom = model()
    custom.graph.node[1].domain, custom.graph.node[1].op_type = "of.somebody", "RunCode"
    custom.opset_import.append(onnx.helper.make_opsetid("of.somebody", 1))
    with pytest.raises(UserError, match="onnxruntime cannot run"):
        net(custom.SerializeToString())
    broken = model()
    values = weights()
    values[0] = np.nan
    broken.graph.initializer[0].raw_data = values.tobytes()
    with pytest.raises(UserError, match="no finite numbers"):
        net(broken.SerializeToString())


@pytest.mark.parametrize(
    "wrong",
    [{"size": 4}, {"mean": [0, 0]}, {"std": [0]}, {"range": [1, 1]}, {"name": "Bad_Name"}, {"code": "x"}, {"layer": 3}],
)
def test_descriptions_are_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OnnxDescription.model_validate(DESCRIBED | wrong)
