"""PyTorch files, which are pickles: only tensors and plain containers of them are read, no code in a file runs."""

import pickle
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import torch

from hyperface.errors import ModelError, out_of_memory
from hyperface.reading.one_line import one_line
from hyperface.reading.unpacking import PackedZip, check_zip

_OTHER = re.compile(r"GLOBAL ([\w.]+)")
"""The words in which PyTorch refuses an object that it does not make, before it advises how to make it all the same."""
_ZIP = b"PK\x03\x04"


def read(file: Path | IO[bytes], path: str, harmless: Sequence[Any] = ()) -> Any:
    """Read the content of a file onto the CPU.

    Args:
        path: path of the file, for messages.
        harmless: classes besides tensors that may be in it.

    Raises:
        ModelError: cut off, damaged, compressed, or a pickle of other objects, which are never run.
    """
    try:
        _check(file)
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except PackedZip as error:
        raise ModelError(f"{path}: cannot be read as weights: {error}; write it again with torch.save") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        if out_of_memory(error):  # the file may be sound
            rule = "it asks for more memory than there is"
            raise ModelError(
                f"{path}: cannot be read as weights: {rule}; free some, or fetch the file again"
            ) from error
        other = _OTHER.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if other:
            rule = f"it holds other objects than tensors ({one_line(other[1])}), which are never run"
            fix = "ask for a file of plain tensors, or for .safetensors"
            raise ModelError(f"{path}: cannot be read as weights: {rule}; {fix}") from error
        first = one_line(error.__context__ or error)  # the first cause: PyTorch wraps it in advice
        raise ModelError(f"{path}: cannot be read as weights ({first}); fetch the file again") from error


def _check(file: Path | IO[bytes]) -> None:
    """Raise PackedZip where a file is a zip archive, as PyTorch knows one, that unpacks to more than it holds."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        if stream.read(len(_ZIP)) == _ZIP:
            check_zip(stream)
        stream.seek(0)
