"""A file of weights of this product (.safetensors): its header says what network they are of, so that the file can be
moved and used without its run."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hyperface.reading.json_text import from_json
from hyperface.reading.one_line import one_line


def to_bytes(network: nn.Module, key: str, described: Mapping[str, Any]) -> bytes:
    """The network's weights and buffers; equal ones give equal bytes.

    Args:
        key: key of the header under which the description stands as JSON.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={key: json.dumps(described, sort_keys=True)})


def from_bytes(data: bytes, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read (tensors, description) of what `to_bytes` wrote. Raises ValueError: cut off, or without this key."""
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        described: dict[str, Any] = from_json(from_json(data[8 : 8 + length])["__metadata__"][key])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(one_line(error)) from error
    return tensors, described
