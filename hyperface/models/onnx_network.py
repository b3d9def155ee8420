"""An ONNX file as a PyTorch network, for its gradient: onnxruntime has none. Only home of onnx.

The operators are those of convolutional networks of faces (recognisers, attributes). A file with another one is
refused, and every network is compared with onnxruntime before it is used: see infra/adr/0012.

Shape legend: B images, S pixels a side (the model's).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from hyperface.errors import ModelError
from hyperface.models import device as devices
from hyperface.models.onnx_file import tried
from hyperface.reading.one_line import one_line

TOLERANCE = 1e-3
"""Largest difference from onnxruntime, as a share of the largest number that it gives."""
_TRIED = 2

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor]
"""(attributes of the node, its inputs) -> its first output; an input that the node leaves out is None."""


class _Unknown(RuntimeError):
    """An attribute of an operator that is not known here: `differentiable` refuses the file with it."""


def _window(at: Attributes) -> tuple[list[int], list[int]]:
    """Return (kernel, strides) of a pooling."""
    kernel = at["kernel_shape"]
    return kernel, at.get("strides", [1] * len(kernel))


def _padded(at: Attributes, x: Tensor, value: float = 0.0) -> Tensor:
    """Pad a map by `pads`, which ONNX gives as all begins, then all ends, and PyTorch takes from the last axis on."""
    if at.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or at.get("ceil_mode", 0):
        raise _Unknown("auto_pad and ceil_mode")
    pads = at.get("pads", [0] * 4)
    half = len(pads) // 2
    turned = [pads[end * half + axis] for axis in reversed(range(half)) for end in (0, 1)]
    return functional.pad(x, turned, value=value) if any(turned) else x


def _conv(at: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    ones = [1] * (weight.ndim - 2)
    strides, dilations = at.get("strides", ones), at.get("dilations", ones)
    return functional.conv2d(_padded(at, x), weight, bias, strides, 0, dilations, at.get("group", 1))


def _max_pool(at: Attributes, x: Tensor) -> Tensor:
    return functional.max_pool2d(_padded(at, x, -torch.inf), *_window(at))


def _average_pool(at: Attributes, x: Tensor) -> Tensor:
    if any(at.get("pads", ())) and not at.get("count_include_pad", 0):
        raise _Unknown("count_include_pad=0 with pads")
    return functional.avg_pool2d(_padded(at, x), *_window(at))


def _batch_norm(at: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, shift, eps=at.get("epsilon", 1e-5))


def _gemm(at: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = (a.T if at.get("transA", 0) else a), (b.T if at.get("transB", 0) else b)
    product: Tensor = at.get("alpha", 1.0) * (a @ b)
    if c is not None:
        product = product + at.get("beta", 1.0) * c
    return product


def _cast(at: Attributes, x: Tensor) -> Tensor:
    dtype = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
    return x.to(dtype[at["to"]])


def _clip(at: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    low = torch.tensor(at["min"]) if "min" in at else low
    high = torch.tensor(at["max"]) if "max" in at else high
    return x if low is None and high is None else torch.clamp(x, low, high)


def _reshape(at: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _axes(at: Attributes, axes: Tensor | None) -> list[int]:
    return list(at["axes"]) if "axes" in at else axes.tolist() if axes is not None else []


def _squeeze(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze(_axes(at, axes))


def _unsqueeze(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    for axis in sorted(_axes(at, axes)):
        x = x.unsqueeze(axis)
    return x


def _reduce(by: Callable[..., Tensor]) -> Operator:
    def reduced(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        return by(x, dim=_axes(at, axes) or list(range(x.ndim)), keepdim=bool(at.get("keepdims", 1)))

    return reduced


def _gather(at: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = at.get("axis", 0) % x.ndim
    found = x.index_select(axis, places.reshape(-1) % x.shape[axis])
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


_OPERATORS: dict[str, Operator] = {
    "Add": lambda at, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda at, *parts: torch.cat(parts, at["axis"]),
    "Constant": lambda at: torch.from_numpy(np.array(numpy_helper.to_array(at["value"]))),
    "Conv": _conv,
    "Div": lambda at, a, b: a / b if a.is_floating_point() else a // b,
    "Dropout": lambda at, x, *ignored: x,
    "Flatten": lambda at, x: x.reshape(int(np.prod(x.shape[: at.get("axis", 1)])), -1),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda at, x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda at, x: (at.get("alpha", 0.2) * x + at.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda at, x: functional.hardswish(x),
    "Identity": lambda at, x: x,
    "LeakyRelu": lambda at, x: functional.leaky_relu(x, at.get("alpha", 0.01)),
    "MatMul": lambda at, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda at, a, b: a * b,
    "Neg": lambda at, x: -x,
    "PRelu": lambda at, x, slope: x.clamp(min=0) + slope * x.clamp(max=0),
    "Pow": lambda at, a, b: a**b,
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda at, x: x.relu(),
    "Reshape": _reshape,
    "Shape": lambda at, x: torch.tensor(x.shape[at.get("start", 0) : at.get("end")]),
    "Sigmoid": lambda at, x: x.sigmoid(),
    "Softmax": lambda at, x: x.softmax(at.get("axis", -1)),
    "Sqrt": lambda at, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda at, a, b: a - b,
    "Tanh": lambda at, x: x.tanh(),
    "Transpose": lambda at, x: x.permute(at.get("perm", list(reversed(range(x.ndim))))),
    "Unsqueeze": _unsqueeze,
}


class OnnxNetwork(nn.Module):
    """float32 [B, 3, S, S] -> the file's first output, with its gradient. Weights are frozen."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._nodes = list(model.graph.node)
        self._attributes = [
            {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute} for node in self._nodes
        ]
        weights = {w.name: torch.from_numpy(np.array(numpy_helper.to_array(w))) for w in model.graph.initializer}
        self._buffer = {name: f"weight_{number}" for number, name in enumerate(weights)}  # names may hold dots
        for name, value in weights.items():
            self.register_buffer(self._buffer[name], value)
        (self._input,) = [i.name for i in model.graph.input if i.name not in weights]
        self._output = model.graph.output[0].name

    def forward(self, x: Tensor) -> Tensor:
        known: dict[str, Tensor | None] = {name: getattr(self, buffer) for name, buffer in self._buffer.items()}
        known |= {"": None, self._input: x}
        for node, at in zip(self._nodes, self._attributes, strict=True):
            made = _OPERATORS[node.op_type](at, *[known[name] for name in node.input])
            known[node.output[0]] = made.to(x.device) if made.is_floating_point() else made
        found = known[self._output]
        assert found is not None
        return found


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def parse(data: bytes, path: str) -> onnx.ModelProto:
    """Parse an ONNX model. Raises ModelError: it is none."""
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf exports no class of its errors
        raise ModelError(f"{path}: is no whole ONNX model; give another file") from error


def differentiable(model: onnx.ModelProto, path: str, session: Any, image_size: int) -> OnnxNetwork:
    """The network of a file, on a GPU where there is one, compared with what onnxruntime makes of the same file.

    Args:
        session: a session of onnxruntime that takes [B, 3, S, S].

    Raises:
        ModelError: an operator is not known here, or the numbers differ; names it.
    """
    strange = sorted({node.op_type for node in model.graph.node} - _OPERATORS.keys())
    if strange:
        fix = "export the model without them (see infra/adr/0012), or steer nothing (no control.targets)"
        raise ModelError(f"{path}: no gradient is known here for its operators {', '.join(strange)}; {fix}")
    device = devices.chosen()
    signal = np.random.default_rng(0).uniform(-1, 1, (_TRIED, 3, image_size, image_size)).astype(np.float32)
    fixed = session.get_inputs()[0].shape[0]
    alone = isinstance(fixed, int)
    batches = [np.repeat(row[None], fixed, 0) for row in signal] if alone else [signal]
    wanted = np.concatenate([tried(path, session, batch)[0][: 1 if alone else None] for batch in batches])
    try:
        network = OnnxNetwork(model).eval().requires_grad_(False).to(device)
        with torch.no_grad():
            found = network(torch.from_numpy(signal).to(device)).float().cpu().numpy()
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # of its graph
        what = f"PyTorch cannot run it on {_TRIED} images ({one_line(error)})"
        unknown = isinstance(error, _Unknown | NotImplementedError)  # by this file, or by PyTorch
        fix = "export the model without that" if unknown else "export it with any number of images a batch"
        raise ModelError(f"{path}: {what}; {fix}") from error
    scale = float(np.abs(wanted).max()) or 1.0
    if found.shape != wanted.shape or not float(np.abs(found - wanted).max()) <= TOLERANCE * scale:
        shown = f"{list(found.shape)}" if found.shape != wanted.shape else f"{np.abs(found - wanted).max():.2g} apart"
        raise ModelError(f"{path}: PyTorch gives other numbers than onnxruntime ({shown}); report this as a defect")
    return network
