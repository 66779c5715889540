"""A feature net of the user's own: one ONNX file, and a description of what it expects and where its features are.

No code comes from it: onnxruntime runs the operations that it knows itself, and a net that lies in several files is
refused.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..gan.errors import UserError
from ..gan.options import Options
from .transparency import over_grey

MAX_FEATURES = 16_384


class OnnxDescription(Options):
    """What stands in `FILE.json` beside `FILE.onnx`. Images come to the net in this size, range and normalisation."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40, description="stands in names of metrics")
    layer: str = Field(
        description="name of the tensor that holds the features: (N, F); (N, F, H, W), whose mean over places counts; "
        "or tokens (N, T, F)"
    )
    size: int = Field(ge=8, le=2048, description="height and width in pixels, to which images are resized")
    resize: Literal["bilinear", "bicubic"] = "bicubic"
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    range: tuple[FiniteFloat, FiniteFloat] = Field((0.0, 1.0), description="values of black and of white")
    mean: tuple[FiniteFloat, ...] = Field((0.0,), description="taken off after that: of all channels, or of each")
    std: tuple[FiniteFloat, ...] = Field((1.0,), description="divides what is left")
    tokens: Literal["first", "mean"] = Field("first", description="which of tokens (N, T, F) are the features")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        count = 1 if self.channels == "grey" else 3
        if {len(self.mean), len(self.std)} - {1, count}:
            raise ValueError(f"mean and std need 1 or {count} values")
        if not all(self.std) or self.range[0] == self.range[1]:
            raise ValueError("std may not be 0, and black not equal white")
        return self


class OnnxNet:
    """The net in the bytes of an ONNX file, as other feature nets are used; it travels as these bytes.

    Raises:
        UserError: it is no such net, refers to other files, or its layer does not give features.
    """

    def __init__(self, content: bytes, described: OnnxDescription) -> None:
        self.content, self.described = content, described
        self._session: Any = None
        grey = torch.zeros(2, 1, described.size, described.size)
        grey[1] = 1
        found = self.features(grey)
        if found.ndim != 2 or len(found) != 2 or not 2 <= found.shape[1] <= MAX_FEATURES:
            raise UserError(
                f"layer {described.layer} has the shape {tuple(found.shape)} for two images: features are (N, F) "
                f"with 2 to {MAX_FEATURES:,} of them, (N, F, H, W) or (N, T, F)"
            )
        if not bool(found.isfinite().all()):
            raise UserError(f"layer {described.layer} has values that are no finite numbers")

    def __reduce__(self) -> tuple[type[OnnxNet], tuple[bytes, OnnxDescription]]:
        return OnnxNet, (self.content, self.described)

    def features(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> features (B, F). Transparency is laid on grey."""
        session = self._opened()
        given = self._prepared(image)
        (name,) = session.get_inputs()
        # An export may have fixed how many images come at a time.
        fixed = name.shape[0] if isinstance(name.shape[0], int) and name.shape[0] > 0 else len(given)
        made = []
        for part in np.array_split(given, range(fixed, len(given), fixed)):
            filled = np.concatenate([part, np.repeat(part[-1:], fixed - len(part), 0)]) if len(part) < fixed else part
            try:
                (found,) = session.run([self.described.layer], {name.name: filled})
            except Exception as error:
                raise UserError(f"the feature net cannot see such images: {_short(error)}") from None
            made.append(np.asarray(found, np.float32)[: len(part)])
        x = torch.from_numpy(np.concatenate(made))
        if x.ndim == 4:
            return x.mean((2, 3) if self.described.layout == "nchw" else (1, 2))
        if x.ndim == 3:
            return x[:, 0] if self.described.tokens == "first" else x.mean(1)
        return x

    def _prepared(self, image: Tensor) -> np.ndarray[Any, Any]:
        described, image = self.described, over_grey(image)
        image = image[:, :3] if image.shape[1] >= 3 else image[:, :1].expand(-1, 3, -1, -1)
        if described.channels == "grey":
            image = image.mean(1, keepdim=True)
        elif described.channels == "bgr":
            image = image.flip(1)
        size = (described.size, described.size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode=described.resize, align_corners=False, antialias=True).clamp(-1, 1)
        low, high = described.range
        image = low + (image + 1) / 2 * (high - low)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (described.mean, described.std))
        image = (image - mean) / std
        return (image if described.layout == "nchw" else image.permute(0, 2, 3, 1)).contiguous().numpy()

    def _opened(self) -> Any:
        """Return the session, made where the net is used first: it cannot travel."""
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            # Parts of a work run beside each other, and one thread adds up in one order.
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4
            content = _with_output(self.content, self.described.layer)
            try:
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise UserError(f"onnxruntime cannot run this feature net: {_short(error)}") from None
            if [each.type for each in self._session.get_inputs()] != ["tensor(float)"]:
                raise UserError("a feature net has one input, images as 32-bit floats")
        return self._session


def _with_output(content: bytes, layer: str) -> bytes:
    """Return the model with `layer` among its outputs, if nothing of it lies elsewhere."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception:
        raise UserError("this is not an ONNX file") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(model)):
        raise UserError("weights of this feature net lie in other files: export it as one self-contained file")
    if layer in (output.name for output in model.graph.output):
        return content
    if layer not in (name for node in model.graph.node for name in node.output):
        outputs = ", ".join(output.name for output in model.graph.output)
        raise UserError(f"this feature net has no tensor {layer!r}; its outputs are {outputs[:200]}")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer))
    return bytes(model.SerializeToString())


def _tensors(message: Any) -> Any:
    """Yield every tensor of weights in a protobuf message, also in graphs within graphs."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            # One message, or many of them.
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(each)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
