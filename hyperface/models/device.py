"""The choice of the device on which networks run, and of their precision."""

import torch

from hyperface.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def chosen(device: str | torch.device | None = None) -> torch.device:
    """The given device; None: the GPU where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def precision(section: str, name: str, device: torch.device) -> torch.dtype:
    """Return a generator's precision. Raises ModelError where half precision is asked of a CPU; names the section's
    key."""
    if device.type == "cpu" and name == "float16":
        raise ModelError(
            f"{section}.precision: float16 needs a GPU, and this worker has none; set {section}.precision=float32, or "
            "reserve one with synthesis.gpus_per_actor=1"
        )
    return DTYPES[name]
