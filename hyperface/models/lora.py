"""Low-rank adapters (Hu et al., arXiv 2106.09685) added into the weights they adapt: no cost while drawing.

Files name the adapted layers in one of three ways: `lora_unet_<layer with underscores>.lora_down.weight` with an
`.alpha` (kohya; the published LCM-LoRA), `unet.<layer>.lora_A.weight` (peft), or `unet.<layer>.lora.down.weight` (old
diffusers).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hyperface.errors import ModelError

_PARTS = re.compile(
    r"(?:lora_unet_(?P<flat>[^.]+)|(?:unet\.)?(?P<layer>.+?))\."
    r"(?:(?P<down>lora_down|lora_A|lora\.down)\.weight|(?P<up>lora_up|lora_B|lora\.up)\.weight|(?P<alpha>alpha))"
)


def merge(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> int:
    """Add scale * up @ down to the weight of every adapted layer, in float32; return the number of layers.

    The scale is alpha / rank where the file gives alpha, else 1.

    Raises:
        ModelError: a tensor that adapts no layer of the network, half of a pair, or other shapes; nothing is adapted.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    pairs = _pairs(tensors, layers, path)
    changes = {name: _change(layers[name].weight, pair, name, path) for name, pair in pairs.items()}
    if not changes:
        raise ModelError(f"{path}: adapts no layer of {type(network).__name__}; give the LCM-LoRA of its base model")
    for name, change in changes.items():
        weight = layers[name].weight
        weight.data = (weight.data.float() + change).to(weight.dtype)
    return len(changes)


def _pairs(tensors: Mapping[str, Tensor], layers: Mapping[str, nn.Module], path: Path) -> dict[str, dict[str, Tensor]]:
    """Return {layer: {"down", "up", maybe "alpha"}}."""
    flat = {name.replace(".", "_"): name for name in layers}
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _PARTS.fullmatch(key)
        layer = "" if not match else flat.get(match["flat"], "") if match["flat"] else str(match["layer"])
        if not match or layer not in layers:
            raise ModelError(f"{path}: {key} adapts no layer of this model; give the LCM-LoRA of its base model")
        part = next(part for part in ("down", "up", "alpha") if match[part])
        pairs.setdefault(layer, {})[part] = tensor.float()
    return pairs


def _change(weight: Tensor, pair: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if "down" not in pair or "up" not in pair:
        raise ModelError(f"{path}: {name} has one half of its adapter only; fetch the file again")
    down, up = pair["down"], pair["up"]
    product = up.flatten(1) @ down.flatten(1)
    if product.numel() != weight.numel() or len(product) != len(weight):
        shapes = f"{list(up.shape)} and {list(down.shape)} for {list(weight.shape)}"
        raise ModelError(f"{path}: {name} has another shape ({shapes}); give the LCM-LoRA of its base model")
    scale = float(pair.get("alpha", torch.tensor(len(down)))) / len(down)
    return scale * product.reshape(weight.shape)
