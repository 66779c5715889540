"""A small ONNX net of our own, with the description of what it expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DESCRIBED = {"name": "tiny", "layer": "features", "size": 16}


def weights() -> np.ndarray:
    """Of a convolution of 12 filters (12, 3, 4, 4)."""
    return np.random.default_rng(0).normal(size=(12, 3, 4, 4)).astype(np.float32)


def model(batch: int | str = "n") -> onnx.ModelProto:
    """Convolution with a stride of 4, ReLU (`places`), mean over places (`features`), and a product behind it."""
    arrays = {"filters": weights(), "axes": np.array([2, 3], np.int64), "last": np.ones((12, 2), np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "filters"], ["convolved"], strides=[4, 4]),
        helper.make_node("Relu", ["convolved"], ["places"]),
        helper.make_node("ReduceMean", ["places", "axes"], ["features"], keepdims=0),
        helper.make_node("MatMul", ["features", "last"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write(folder: Path, name: str = "tiny", **described: Any) -> Path:
    """Write both files; the ONNX file."""
    file = folder / f"{name}.onnx"
    file.write_bytes(model().SerializeToString())
    file.with_suffix(".json").write_text(json.dumps(DESCRIBED | described))
    return file
