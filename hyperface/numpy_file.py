"""Files of numpy that may be cut, damaged or made to harm. Nothing in them is run."""

import io
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray


def array(data: bytes) -> NDArray[Any]:
    """The array in an .npy file. Raises ValueError: it is none, or holds less than it claims."""
    found = _loaded(data)
    if isinstance(found, dict):
        raise ValueError("it is an .npz file")
    return found


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz file, by name. Raises ValueError: it is none, or holds less than it claims."""
    found = _loaded(data)
    if not isinstance(found, dict):
        raise ValueError("it is no .npz file")
    return found


def _loaded(data: bytes) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        found: Any = np.load(io.BytesIO(data), allow_pickle=False)
        return dict(found) if isinstance(found, NpzFile) else found
    except Exception as error:  # a header is parsed as Python, an .npz as a zip archive: each raises what it likes
        raise ValueError(str(error) or type(error).__name__) from error
