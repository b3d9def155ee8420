"""Verification files of InsightFace's form: what they are written with is read, and nothing in them is run."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hyperface.config import StorageConfig
from hyperface.errors import ConfigError, RunError
from hyperface.verification.benchmarks import read_benchmark, read_bin
from hyperface.verification.pair_set import PairSet


def picture(seed: int, size: int = 16, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


PICTURES = [picture(seed) for seed in range(6)]
LABELS = [True, False, True]


def same_as_given(pairs: PairSet) -> bool:
    assert pairs.first_P.tolist() == [0, 2, 4]
    assert pairs.second_P.tolist() == [1, 3, 5]
    return list(pairs.images) == PICTURES and pairs.same_P.tolist() == LABELS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "labels", [LABELS, np.array(LABELS), [np.bool_(label) for label in LABELS], [1, 0, 1], np.array([1, 0, 1])]
)
def test_bytes_and_labels_of_any_kind_are_read_in_every_protocol(protocol: int, labels: Any) -> None:
    assert same_as_given(read_bin(pickle.dumps((PICTURES, labels), protocol), "lfw.bin"))


@pytest.mark.parametrize("protocol", range(6))
def test_images_kept_as_rows_of_numpy_are_read_in_every_protocol(protocol: int) -> None:
    rows = [np.frombuffer(data, np.uint8).copy() for data in PICTURES]
    assert same_as_given(read_bin(pickle.dumps((rows, LABELS), protocol), "lfw.bin"))
    constant = [np.frombuffer(data, np.uint8) for data in PICTURES]
    assert same_as_given(read_bin(pickle.dumps((constant, LABELS), protocol), "lfw.bin"))


def python_2(images: list[bytes], labels: list[bool]) -> bytes:
    """Write what Python 2's cPickle writes in protocol 2: texts are bytes, truth values have one byte."""

    def items(parts: list[bytes]) -> bytes:
        return b"](" + b"".join(parts) + b"e"

    texts = [b"T" + struct.pack("<i", len(data)) + data for data in images]
    return b"\x80\x02" + items(texts) + items([b"\x88" if label else b"\x89" for label in labels]) + b"\x86."


def test_files_of_python_2_are_read() -> None:
    assert same_as_given(read_bin(python_2(PICTURES, LABELS), "lfw.bin"))


def test_arrays_of_python_2_are_read() -> None:
    data = pickle.dumps(([np.frombuffer(data, np.uint8) for data in PICTURES], np.array(LABELS)), 2)
    assert b"numpy._core.multiarray" in data
    assert same_as_given(read_bin(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"), "lfw.bin"))


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["image", "label", "whole"])
def test_a_command_in_a_file_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int, place: str) -> None:
    ran = tmp_path / "ran"
    payload = Payload(os.system, f"touch {ran}")
    content = {
        "image": ([payload, *PICTURES], LABELS),
        "label": (PICTURES, [payload, *LABELS]),
        "whole": payload,
    }[place]
    data = pickle.dumps(content, protocol)
    with pytest.raises(RunError, match=r"lfw\.bin: .*posix\.system"):
        read_bin(data, "lfw.bin")
    assert not ran.exists()
    pickle.loads(data)
    assert ran.exists()  # the file does what the test says it does


@pytest.mark.parametrize(
    ("call", "arguments", "named"),
    [
        (eval, ("1+1",), r"builtins\.eval|__builtin__\.eval"),
        (getattr, (PICTURES, "append"), r"getattr"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (bytearray, (2**40,), r"bytearray"),
        (np.zeros, (2**40,), r"zeros"),
    ],
)
def test_any_other_function_is_refused_by_name(call: Any, arguments: tuple[Any, ...], named: str) -> None:
    for protocol in (2, 4):
        with pytest.raises(RunError, match=named):
            read_bin(pickle.dumps(([Payload(call, *arguments)], LABELS), protocol), "lfw.bin")


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return "elsewhere" if obj is LABELS else None


@pytest.mark.parametrize("protocol", [0, 4])
def test_persistent_ids_are_refused(protocol: int) -> None:
    file = io.BytesIO()
    Persistent(file, protocol).dump((PICTURES, LABELS))
    with pytest.raises(RunError, match=r"the instruction (BIN)?PERSID"):
        read_bin(file.getvalue(), "lfw.bin")


def test_objects_extensions_and_foreign_encodings_are_refused() -> None:
    for data, named in (
        (b"(ios\nsystem\n(S'true'\ntR.", "INST"),
        (b"\x82\x01.", "EXT1"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zlibtR.", "encoding other than latin1"),
        (pickle.dumps(({"a": 1}, LABELS)), "DICT"),
        (pickle.dumps((PICTURES, [Path("x")]), 4), "pathlib"),
        (pickle.dumps((PICTURES, LABELS))[:-40], "no whole pickle"),
        (b"", "no whole pickle"),
        (b"PK\x03\x04 not a pickle", "no whole pickle|the instruction"),
    ):
        with pytest.raises(RunError, match=named):
            read_bin(data, "lfw.bin")


def test_a_pickle_that_asks_for_memory_it_does_not_fill_is_refused() -> None:
    place = b"\x80\x04]r\xff\xff\xff\x7f."  # place 2^31 - 1 of the memo: 17 GB for Python's own reader
    length = b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."
    for data, named in ((place, "place 2147483647 of the memo"), (length, "no whole pickle")):
        with pytest.raises(RunError, match=named):
            read_bin(data, "lfw.bin")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ((PICTURES[:5], LABELS), "5 images and 3 labels"),
        ((PICTURES, LABELS[:2]), "6 images and 2 labels"),
        (([], []), "0 images and 0 labels"),
        (([*PICTURES[:5], "text"], LABELS), "no bytes .image 5."),
        ((PICTURES, [True, False, 2]), "label 2"),
        ((PICTURES, [True, False, None]), "label 2"),
        ((PICTURES, np.array([0.0, 1.0, 1.0])), "labels of type 'f8'"),
        ((PICTURES,), r"something other than \(images, labels\)"),
        ((np.zeros((6, 4, 4, 3), np.uint8), LABELS), "an array that is no row"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(content: Any, named: str) -> None:
    with pytest.raises(RunError, match=rf"lfw\.bin: .*{named}"):
        read_bin(pickle.dumps(content), "lfw.bin")


def test_images_are_decoded_in_batches_in_their_order() -> None:
    sheets = [picture(seed, form="PNG") for seed in range(6)]
    pairs = read_bin(pickle.dumps((sheets, LABELS)), "lfw.bin")
    batches = list(pairs.batches(4))
    assert [len(batch) for batch in batches] == [4, 2]
    wanted = [np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8) for seed in range(6)]
    assert np.array_equal(np.concatenate(batches), wanted)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (PICTURES[3][: len(PICTURES[3]) // 2], "cannot be decoded"),
        (b"", "is none of JPEG"),
        (b"GIF89a and so on", "is none of JPEG"),
        (picture(3, size=17), "is 17x17, the images before it are 16x16"),
    ],
)
def test_a_broken_image_is_named_by_its_number(broken: bytes, named: str) -> None:
    pairs = read_bin(pickle.dumps(([*PICTURES[:3], broken, *PICTURES[4:]], LABELS)), "lfw.bin")
    with pytest.raises(RunError, match=f"image 3: {named}"):
        list(pairs.batches(2))


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded() -> None:
    head = bytearray(picture(0, form="PNG"))
    head[16:24] = struct.pack(">II", 16, 5000)
    head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
    pairs = read_bin(pickle.dumps(([bytes(head), PICTURES[0]], [True])), "lfw.bin")
    with pytest.raises(RunError, match="image 0: must be at most 4096 pixels wide and high, and claims 16x5000"):
        list(pairs.batches(2))


def test_a_file_that_is_not_there_or_of_another_kind_is_bad_input(tmp_path: Path) -> None:
    for path, named in ((tmp_path / "lfw.bin", "does not exist"), (tmp_path / "lfw.rec", "must be `toy`")):
        with pytest.raises(ConfigError, match=named):
            read_benchmark(str(path), StorageConfig())


def test_a_benchmark_on_s3_is_read_like_one_on_disk(s3_endpoint: str, s3_bucket: str) -> None:
    from hyperface.storage import open_store

    storage = StorageConfig(endpoint_url=s3_endpoint)
    open_store(f"s3://{s3_bucket}/sets", storage).put("lfw.bin", pickle.dumps((PICTURES, LABELS)))
    assert same_as_given(read_benchmark(f"s3://{s3_bucket}/sets/lfw.bin", storage))
