"""Files of numpy that may be cut, damaged or made to harm. Nothing in them is run."""

import io
import zipfile
from math import prod
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from hyperface.reading.unpacking import check_zip


def array(data: bytes) -> NDArray[Any]:
    """The array in an .npy file. Raises ValueError: it is none, or holds less than it claims."""
    try:
        return _array(data)
    except Exception as error:  # a header is parsed as Python, which raises what it likes
        raise ValueError(str(error) or type(error).__name__) from error


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz file, by name. Raises ValueError: it is none, compressed, or holds less than it claims."""
    try:
        check_zip(io.BytesIO(data))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
    except Exception as error:  # as in `array`; a damaged archive raises more than BadZipFile
        raise ValueError(str(error) or type(error).__name__) from error


def _array(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    shape, _, kind = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    claimed, left = prod(shape) * max(kind.itemsize, 1), len(data) - file.tell()
    if claimed > left and not kind.hasobject:
        raise ValueError(f"its header claims {claimed:.3g} bytes of numbers, and {left} follow")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)
