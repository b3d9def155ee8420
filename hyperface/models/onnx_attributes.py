"""A reader of attributes as an ONNX file whose gradient is used: aligned faces to numbers, and where to believe them.

It takes what an ArcFace-style recogniser takes (`arcface.py`): RGB, (x - 127.5) / 127.5, NCHW. Its metadata has the key
`hyperface.attributes`: a JSON list of {"name", "low", "high", "tolerance", "at_least"}, one for each of its numbers.

Shape legend: B images, S pixels a side (the model's), A attributes.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperface.errors import ModelError
from hyperface.models import device as devices
from hyperface.models.arcface import input_shape
from hyperface.models.onnx_file import checked_bytes, open_session, tried
from hyperface.models.onnx_network import differentiable, parse
from hyperface.models.protocols import AttributeRange
from hyperface.reading.json_text import from_json

METADATA = "hyperface.attributes"
_KEYS = ("control.attribute_path", "control.attribute_sha256")
_EXAMPLE = '[{"name": "yaw", "low": -60, "high": 60, "tolerance": 5, "at_least": false}]'


class OnnxAttributes:
    """A reader of attributes by an ONNX file; an `AttributeReader` (hyperface.models.protocols)."""

    def __init__(self, path: str, sha256: str) -> None:
        """Load and try the model.

        Raises:
            ModelError: the file cannot be read, has another SHA-256, does not say what it reads and where it can be
                believed, or has an operator without a gradient here.
        """
        self.fingerprint = sha256.lower()
        model, session = parse(checked_bytes(path, sha256, _KEYS), path), open_session(path, sha256, _KEYS)
        fixed, self.image_size = input_shape(path, session)
        self.ranges = _ranges({p.key: p.value for p in model.metadata_props}.get(METADATA, ""), path)
        blank = np.zeros((fixed or 1, 3, self.image_size, self.image_size), np.float32)
        found = list(tried(path, session, blank)[0].shape)
        if found != [len(blank), len(self.ranges)]:
            rule = f"must give [batch, {len(self.ranges)}] for the {len(self.ranges)} attributes of its metadata"
            raise ModelError(f"{path}: {rule}; for {len(blank)} image(s) it gives {found}")
        self._network = differentiable(model, path, session, self.image_size)
        self._device = devices.chosen()
        with torch.enable_grad():
            if not self.values(torch.from_numpy(blank[:1]).requires_grad_()).requires_grad:
                rule = "must not round what it gives (Cast to integers): no gradient passes"
                raise ModelError(
                    f"{path}: {rule}; export the model without that, or give another as control.attribute_path"
                )

    def values(self, images_BCHW: Tensor) -> Tensor:
        """[B, 3, S, S] in [-1, 1] -> [B, A], with its gradient."""
        values_BA: Tensor = self._network(images_BCHW.to(self._device)).float()
        return values_BA


def _ranges(text: str, path: str) -> dict[str, AttributeRange]:
    try:
        given = from_json(text)
        ranges = {str(one["name"]): _range(one) for one in given}
        if not ranges or len(ranges) != len(given):
            raise ValueError("each number must have a name of its own")
    except (ValueError, TypeError, KeyError) as error:
        rule = f"its metadata must say what it reads and where it can be believed: {METADATA} = {_EXAMPLE}"
        raise ModelError(f"{path}: {rule} ({type(error).__name__}: {error}); see hyperface/README.md") from error
    return ranges


def _range(given: dict[str, Any]) -> AttributeRange:
    at_least = given.get("at_least", False)
    if not isinstance(at_least, bool):
        raise ValueError(f"at_least of {given['name']} must be true or false; it is {at_least!r}")
    found = AttributeRange(float(given["low"]), float(given["high"]), float(given["tolerance"]), at_least)
    if not (-math.inf < found.low < found.high < math.inf and 0 < found.tolerance < math.inf):
        raise ValueError(f"{given['name']} must have low < high and a tolerance above 0")
    return found
