"""Files of numpy that were cut, damaged or made to harm are one error, whatever numpy makes of them."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from hyperface.reading import numpy_file
from hyperface.reading.one_line import one_line

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, values)
    return sink.getvalue()


def npz(**values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **values)
    return sink.getvalue()


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("rows.npy", data)
    return sink.getvalue()


def test_whole_files_are_read():
    np.testing.assert_array_equal(numpy_file.array(npy(np.asfortranarray(ROWS))), ROWS)
    np.testing.assert_array_equal(numpy_file.arrays(npz(rows=ROWS))["rows"], ROWS)


HEAD = npy(ROWS)[:10]
BROKEN = [b"", b"\x93NUMPY", HEAD, npy(ROWS)[:-1], HEAD + b"{'descr': '<f4', (" + b" " * 100, pickle.dumps(ROWS)]


@pytest.mark.parametrize("data", [*BROKEN, npz(rows=ROWS)], ids=range(7))
def test_what_is_no_array_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"."):
        numpy_file.array(data)


@pytest.mark.parametrize(
    "data", [*BROKEN, npy(ROWS), npz(rows=ROWS)[:-30], *(zipped(data) for data in BROKEN[1:5])], ids=range(12)
)
def test_what_is_no_archive_of_arrays_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"."):
        numpy_file.arrays(data)


def test_what_others_say_fits_a_line():
    assert one_line(ValueError("\n\n  a \x1b[2J\nb")) == "a \\x1b[2J"
    assert one_line(EOFError()) == "EOFError"
    assert one_line("日本語 ü\u202e.png") == "日本語 ü\\u202e.png"
    assert len(one_line("x" * 1000)) == 303
