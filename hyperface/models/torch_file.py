"""PyTorch files, which are pickles: only tensors and plain containers of them are read, no code in a file runs."""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch

from hyperface.errors import ModelError
from hyperface.one_line import one_line

_OTHER = re.compile(r"GLOBAL ([\w.]+)")
"""What PyTorch says of an object that it does not make, before it advises how to make it all the same."""


def read(file: Path | IO[bytes], path: str, harmless: Sequence[Any] = ()) -> Any:
    """What a file holds, on the CPU.

    Args:
        path: for messages.
        harmless: classes besides tensors that may be in it.

    Raises:
        ModelError: cut off, damaged, or a pickle of other objects, which are never run.
    """
    try:
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        other = _OTHER.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if other:
            rule = f"it holds other objects than tensors ({one_line(other[1])}), which are never run"
            fix = "ask for a file of plain tensors, or for .safetensors"
            raise ModelError(f"{path}: cannot be read as weights: {rule}; {fix}") from error
        first = one_line(error.__context__ or error)  # the first cause: PyTorch wraps it in advice
        raise ModelError(f"{path}: cannot be read as weights ({first}); fetch the file again") from error
