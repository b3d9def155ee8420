"""The shipped weights of the toy world: where they lie, what their bytes must be, and how they are read and written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

SHIPPED = Path(__file__).with_name("weights")

# SHA-256 of every shipped file. `python -m jobs.train_toy` prints this table for new weights.
SHA256: dict[str, str] = {
    "attributes": "bcb830ddf142bb3e865de8b4b68e88a3aa72a17961f9a9e8c228c0e6e3f03caa",
    "diffusion": "c7c146319d3d2ae708230fd964f676ca23f11762a86a8060b147b94911f01e00",
    "inverter": "4f6ce3cfaa59744f86f9732bc9e9064b4c78166080542fbe8b44e6753687e1d0",
    "judge": "1899e058e6335f7129b7043529ac28cfb74edb9047f7d91eb9d39a2498d5ee2d",
    "recognizer": "17269aaca0b1a3b53cc131dba29a2f67d952be2f0b114c6ca67080b13b35bd6a",
}


def read_weights(name: str, folder: Path = SHIPPED, check: bool = True) -> tuple[dict[str, Tensor], str]:
    """Read `folder/name.safetensors`; returns float32 tensors by name and the file's SHA-256 (64 hex digits).

    Raises FileNotFoundError when there is no such file and ValueError when `check` is on and the file is not the one
    in the table SHA256.
    """
    path = folder / f"{name}.safetensors"
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if check and found != SHA256.get(name):
        raise ValueError(
            f"{path}: SHA-256 is {found}, expected {SHA256.get(name)}; the file is damaged or replaced: restore it "
            "from the repository, or train anew with `python -m jobs.train_toy OUT_DIR` and update SHA256 in weights.py"
        )
    return {key: value.float() for key, value in load(data).items()}, found


def write_weights(name: str, tensors: Mapping[str, Tensor], folder: Path) -> str:
    """Write the floating-point tensors, in half precision, to `folder/name.safetensors`; returns the file's SHA-256.

    Half precision costs nothing measurable in any of these networks and halves what the repository carries. The integer
    counters of batch normalisation are left out: inference does not use them.
    """
    halves = {
        key: value.detach().to(torch.float16).contiguous()
        for key, value in sorted(tensors.items())
        if value.is_floating_point()
    }
    data = save(halves)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(data)
    return hashlib.sha256(data).hexdigest()
