"""Small files that are made to take all memory or time, or to write on the terminal, and what is said of them."""

import pickle
import struct

import numpy as np
import pytest

from hyperface.errors import RunError
from hyperface.verification.benchmarks import read_bin
from hyperface.verification.restricted_pickle import Refused, load


def kinds_of(code: bytes) -> bytes:
    """numpy.dtype, called with what the instructions `code` leave on the stack."""
    return b"cnumpy\ndtype\n" + code + b"\x85R"


def branches(depth: int) -> bytes:
    """A list of twice the same list of twice the same list: written out, it has 2^depth words."""
    made = b"]q\x00X\x08\x00\x00\x00xxxxxxxxa0"
    for k in range(depth):
        made += b"](h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) + b"0"
    return b"\x80\x02" + made + kinds_of(b"h" + bytes([depth])) + b"."


def nested(depth: int) -> bytes:
    made = b"]q\x000"
    for k in range(depth):
        made += b"](j" + struct.pack("<I", k) + b"er" + struct.pack("<I", k + 1) + b"0"
    return b"\x80\x02" + made + kinds_of(b"j" + struct.pack("<I", depth)) + b"."


def encoded(times: int, size: int) -> bytes:
    """One text that is encoded again and again, as Python 3 writes bytes in protocol 2."""
    text = b"X" + struct.pack("<I", size) + b"x" * size + b"q\x000"
    latin1 = b"X\x06\x00\x00\x00latin1q\x010c_codecs\nencode\nq\x020"
    return b"\x80\x02" + text + latin1 + b"](" + times * b"h\x02h\x00h\x01\x86R" + b"e."


def long_kinds(times: int, size: int) -> bytes:
    """One long name of a type, of which as many types are made."""
    name = b"T" + struct.pack("<I", size) + b"x" * size + b"q\x000"
    return b"\x80\x02" + name + b"](" + times * kinds_of(b"h\x00") + b"e."


def test_lists_in_lists_are_not_written_out_in_full() -> None:
    for data in (branches(60), nested(5000)):
        with pytest.raises(Refused, match="a type of numpy that is none of bytes or labels"):
            load(data)


def test_a_text_is_not_encoded_more_often_than_the_file_has_bytes() -> None:
    with pytest.raises(Refused, match="more encoded bytes than the file has"):
        load(encoded(times=2000, size=100_000))
    assert load(encoded(times=1, size=100_000)) == [b"x" * 100_000]


def test_a_long_name_of_a_type_is_refused() -> None:
    with pytest.raises(Refused, match="a type of numpy that is none of bytes or labels"):
        load(long_kinds(times=2, size=9))


def test_a_place_of_the_memo_beyond_the_instructions_is_refused() -> None:
    padding = b"U\xff" + b"x" * 255 + b"0"
    data = b"\x80\x02" + 100 * padding + b"]r" + struct.pack("<I", 20_000) + b"."
    with pytest.raises(Refused, match="place 20000 of the memo"):
        load(data)


def rows_of_one(data: bytearray, times: int) -> bytes:
    """Write as many rows of numpy that all have the same bytes for theirs."""
    buffer = b"\x96" + struct.pack("<Q", len(data)) + bytes(data) + b"q\x000"
    row = b"cnumpy._core.numeric\n_frombuffer\n(h\x00" + kinds_of(b"U\x02u1") + b"J" + struct.pack("<i", len(data))
    row += b"\x85U\x01CtR"
    labels = b"](" + b"\x88" * (times // 2) + b"e"
    return b"\x80\x05" + buffer + b"](" + times * row + b"e" + labels + b"\x86."


def test_an_image_that_is_in_a_list_many_times_is_held_once() -> None:
    shared = bytearray(b"x" * 1_000_000)
    for data in (pickle.dumps(([shared] * 100, [True] * 50), 5), rows_of_one(shared, 100)):
        images = read_bin(data, "lfw.bin").images
        assert len(images) == 100
        assert images[0] == shared
        assert len({id(image) for image in images}) == 1


def test_labels_of_a_broken_length_are_refused() -> None:
    data = pickle.dumps(([b"x", b"y"], np.array([1], np.int64)), 4)
    at = data.index(struct.pack("<q", 1))
    data = data[:2] + data[11 : at - 1] + b"\x07" + data[at : at + 7] + data[at + 8 :]  # without the frame, too
    with pytest.raises(RunError, match=r"lfw\.bin: holds labels of 8 bytes each in 7 bytes"):
        read_bin(data, "lfw.bin")


def test_a_name_out_of_a_file_is_cut_and_shown_without_control_characters() -> None:
    for name in (b"\x1b[2J\x1b[31mHELLO", b"x" * 200_000):
        data = b"\x80\x04X" + struct.pack("<I", len(name)) + name + b"\x8c\x01x\x93."
        with pytest.raises(RunError) as error:
            read_bin(data, "lfw.bin")
        assert "\x1b" not in str(error.value)
        assert len(str(error.value)) < 400
    with pytest.raises(RunError) as error:
        read_bin(b"c\x1b[2J\nHELLO\n.", "lfw.bin")
    assert r"the function \x1b[2J.HELLO," in str(error.value)
