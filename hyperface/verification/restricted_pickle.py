"""A reader of the one kind of pickle there is no way around, a list of images and a list of labels; it runs nothing in
it.

A pickle is a program. This reader knows the instructions that such lists need and refuses a file with any other before
it runs; and of all names in the world it knows the few that numpy and Python 2 write around bytes and truth values.
Even those stand for functions of this file that only collect bytes: no function that a file names is ever called.
Nor does a short file take much memory: what is kept of one object is never copied for each place that refers to it.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.verification.pair_set import shown

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
_LONGEST_CODE = 8


class Refused(ValueError):
    """A pickle that asks for more than lists of bytes and labels, or is broken. The message says what it asks for."""


class Array:
    """The bytes of a one-dimensional numpy array, and the code of its type, such as `u1`."""

    def __init__(self) -> None:
        self.code = ""
        self.data: bytes | bytearray = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, data = state
        self._take(shape, kind, data)

    def _take(self, shape: Any, kind: Any, data: Any) -> None:
        if not isinstance(kind, _Kind) or not isinstance(data, bytes | bytearray) or len(shape) != 1:
            raise Refused("an array that is no row of bytes or labels")
        self.code, self.data = kind.code, data

    def labels(self) -> NDArray[np.int64]:
        """Return the labels as whole numbers. Raises Refused for another type, and where the bytes are no whole number
        of labels."""
        if self.code not in _LABEL_TYPES:
            raise Refused(f"labels of type {self.code!r}")
        kind = np.dtype(_LABEL_TYPES[self.code])
        if len(self.data) % kind.itemsize:
            raise Refused(f"labels of {kind.itemsize} bytes each in {len(self.data)} bytes")
        return np.frombuffer(self.data, kind).astype(np.int64)


def load(data: bytes) -> Any:
    """Return the lists, tuples, bytes, numbers and `Array`s that a pickle of any protocol holds; texts of Python 2 as
    bytes.

    Raises:
        Refused: it holds anything else, or is no whole pickle.
    """
    try:
        for number, (code, argument, position) in enumerate(pickletools.genops(data), start=1):
            if code.name not in _INSTRUCTIONS:
                raise Refused(f"the instruction {code.name} (at byte {position})")
            # A place in the memo is memory. No writer leaves more of them free than it gives instructions.
            if "PUT" in code.name and argument is not None and not 0 <= int(argument) <= number:
                raise Refused(f"place {int(argument)} of the memo (at byte {position})")
        return _Unpickler(data).load()
    except Refused:
        raise
    except (MemoryError, RecursionError) as error:
        raise Refused("something that takes more memory than there is") from error
    except (ValueError, TypeError, LookupError, EOFError, AttributeError, OverflowError, pickle.PickleError) as error:
        raise Refused(f"something that is no whole pickle of lists ({shown(error)})") from error


class _Kind:
    """A stand-in for numpy.dtype."""

    def __init__(self, code: Any, *rest: Any) -> None:
        if not isinstance(code, str | bytes) or len(code) > _LONGEST_CODE:
            raise Refused("a type of numpy that is none of bytes or labels")
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order, names and fields of the type: plain ones have none that matter here."""


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


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): object(),
    ("numpy", "dtype"): _Kind,
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
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise Refused(f"the function {shown(f'{module}.{name}')}") from None

    def _encode(self, text: Any, encoding: Any) -> bytes:
        """Return the bytes that are written as a text. Each of them has a character of its own in an honest file."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise Refused("an encoding other than latin1")
        self._left -= len(text)
        if self._left < 0:
            raise Refused("more encoded bytes than the file has")
        return text.encode("latin1")

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a persistent id")
