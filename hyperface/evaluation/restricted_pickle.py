"""Read the one kind of pickle there is no way around, a list of images and a list of labels, and run nothing in it.

A pickle is a program. This reader knows the instructions that such lists need and refuses a file with any other before
it runs; and of all names in the world it knows the few that numpy and Python 2 write around bytes and truth values.
Even those stand for functions of this file that only collect bytes: no function that a file names is ever called.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INSTRUCTIONS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
})  # fmt: skip
_LABEL_TYPES = {"b1": "?", "u1": "u1", "i1": "i1", "i4": "<i4", "i8": "<i8"}


class Refused(ValueError):
    """A pickle that asks for more than lists of bytes and labels, or is broken. The message says what it asks for."""


class Array:
    """The bytes of a one-dimensional numpy array, and the code of its type, such as `u1`."""

    def __init__(self) -> None:
        self.code, self.data = "", b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, data = state
        self._take(shape, kind, data)

    def _take(self, shape: Any, kind: Any, data: Any) -> None:
        if not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray) or len(shape) != 1:
            raise Refused("an array that is no row of bytes or labels")
        self.code, self.data = kind.code, bytes(data)

    def labels(self) -> NDArray[np.int64]:
        """As whole numbers."""
        if self.code not in _LABEL_TYPES:
            raise Refused(f"labels of type {self.code!r}")
        return np.frombuffer(self.data, _LABEL_TYPES[self.code]).astype(np.int64)


def load(data: bytes) -> Any:
    """The lists, tuples, bytes, numbers and `Array`s that a pickle of any protocol holds; texts of Python 2 as bytes.

    Raises:
        Refused: it holds anything else, or is no whole pickle.
    """
    try:
        for code, argument, position in pickletools.genops(data):
            if code.name not in _INSTRUCTIONS:
                raise Refused(f"the instruction {code.name} (at byte {position})")
            # A place in the memo is memory: one without bounds would take all there is.
            if "PUT" in code.name and argument is not None and not 0 <= int(argument) <= len(data):
                raise Refused(f"place {argument} of the memo (at byte {position})")
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Refused:
        raise
    except (ValueError, TypeError, LookupError, EOFError, AttributeError, OverflowError, pickle.PickleError) as error:
        raise Refused(f"something that is no whole pickle of lists ({' '.join(str(error).split())[:200]})") from error


class _Kind:
    """Stands for numpy.dtype."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order, names and fields of the type: plain ones have none that matter here."""


def _reconstruct(*arguments: Any) -> Array:
    return Array()


def _scalar(kind: Any, data: Any) -> bool:
    if not isinstance(kind, _Kind) or kind.code != "b1" or not isinstance(data, bytes) or len(data) != 1:
        raise Refused("a number of numpy that is no truth value")
    return data != b"\0"


def _frombuffer(data: Any, kind: Any, shape: Any, *order: Any) -> Array:
    array = Array()
    array._take(shape, kind, data)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise Refused("an encoding other than latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): object(),
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise Refused(f"the function {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a persistent id")
