"""Tar archives that others wrote: read whole, or refused by name with the faces that came before, never in part."""

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged_tar import ARCHIVES, BLOCK, Folder, flip_bits, headers, packed, picture

from hyperface.errors import RunError
from hyperface.faces import source, tar
from hyperface.faces.pictures import HIDDEN, is_picture
from hyperface.faces.source import Chunk


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_whole_archive_is_read_as_tarfile_reads_it_and_every_member_counted(folder: Folder, name: str):
    sound, bad, passed_over = folder.read(ARCHIVES[name])
    with tarfile.open(fileobj=io.BytesIO(ARCHIVES[name])) as archive:
        names = archive.getnames()
    assert sound == [f"faces.tar/{name}" for name in names if name.endswith(".png")]
    assert (bad, passed_over) == ([], {".txt": len(sound)})


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_cut_anywhere_before_the_end_is_refused(folder: Folder, name: str):
    data = ARCHIVES[name]
    end = len(data.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK
    for place in [*range(0, end + 2 * BLOCK, BLOCK), end + 2 * BLOCK - 1]:
        assert folder.outcome(data[:place]) is None, place
    assert folder.outcome(data[: end + 2 * BLOCK]) == folder.outcome(data), "what fills the record may be missing"


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_flipped_bit_loses_no_member_without_a_word(folder: Folder, name: str):
    bits = len(headers(ARCHIVES[name])) * BLOCK * 8
    flip_bits(folder, ARCHIVES[name], random.Random(1).sample(range(bits), 100))


@pytest.mark.parametrize("length", [1, BLOCK, 4096])
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"\x20"])
def test_bytes_written_over_a_header_are_a_refusal(folder: Folder, byte: bytes, length: int):
    data = packed(40, tarfile.USTAR_FORMAT)
    for place in headers(data)[:60:3]:
        assert folder.outcome(data[:place] + byte * length + data[place + length :]) is None, place


def test_zeros_over_the_last_third_are_a_refusal(folder: Folder):
    data = packed(40)
    assert folder.outcome(data[: len(data) // 3 * 2] + bytes(len(data) // 3)) is None


@pytest.mark.parametrize("between", [b"", bytes(BLOCK), b"\1" * BLOCK])
def test_archives_after_one_another_are_refused(folder: Folder, between: bytes):
    for first in (packed(3), packed(3).rstrip(b"\0") + bytes(2 * BLOCK)):
        assert folder.outcome(first + between + packed(5)) is None


def test_a_refusal_says_how_many_faces_came_before_it(folder: Folder):
    data = bytearray(packed(10, text=False))
    data[headers(bytes(data))[7]] ^= 1
    with pytest.raises(RunError, match=r"faces\.tar: is not .* \(byte 7168 .*; 7 faces came before\)"):
        folder.read(bytes(data))


@pytest.mark.parametrize("name", ["faces.tar.gz", "faces.TGZ", "faces.tar"])
def test_an_archive_packed_by_gzip_is_read_whole_or_refused(tmp_path: Path, name: str):
    folder, data = Folder(tmp_path, name), gzip.compress(packed(6))
    assert [key.split("/")[-1] for key in folder.read(data)[0]] == [f"{n:03d}.png" for n in range(6)]
    (chunk,) = source.plan_chunks(folder.config.embed, folder.config.storage)
    assert chunk == Chunk("tar", (name,))
    for place in range(0, len(data), 7):
        assert folder.outcome(data[:place]) is None
    for place in range(10, len(data), 3):
        damaged = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        assert folder.outcome(damaged) in (None, folder.read(data)), place  # deflate has bits that mean nothing


def test_an_archive_that_unpacks_to_much_more_than_it_has_is_refused_early(folder: Folder):
    info = tarfile.TarInfo("big.bin")
    info.size = 2**33
    bomb = gzip.compress(info.tobuf()) + gzip.compress(bytes(2**24)) * 512
    with pytest.raises(RunError, match="unpacks to more than 100 times its bytes"):
        folder.read(bomb)


def member(kind: bytes, data: bytes, name: str = "a.png", size: int | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % BLOCK)


END = bytes(2 * BLOCK)
FACE = member(tarfile.REGTYPE, picture(1))
ODD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a name that claims a terabyte": lambda: member(tarfile.GNUTYPE_LONGNAME, b"x.png\0", size=2**40) + FACE + END,
    "a name of a megabyte": lambda: member(tarfile.GNUTYPE_LONGNAME, b"x" * 2**20) + FACE + END,
    "a link's name of two megabytes": lambda: member(tarfile.GNUTYPE_LONGLINK, b"x" * 2**21) + FACE + END,
    "a pax header of two megabytes": lambda: member(tarfile.XHDTYPE, b"x" * 2**21) + FACE + END,
    "a header for all of two megabytes": lambda: member(tarfile.XGLTYPE, b"x" * 2**21) + FACE + END,
    "a name without a member": lambda: FACE + member(tarfile.GNUTYPE_LONGNAME, b"x.png\0") + END,
    "a pax header without a member": lambda: FACE + member(tarfile.XHDTYPE, b"15 path=abc.png\n") + END,
    "a pax record without a length": lambda: member(tarfile.XHDTYPE, b"path=abc.png\n") + FACE + END,
    "a pax record that is longer than its header": lambda: member(tarfile.XHDTYPE, b"99 path=a.png\n") + FACE + END,
    "a pax record of no length": lambda: member(tarfile.XHDTYPE, b"0 path=a.png\n") + FACE + END,
    "a pax record of a length below nothing": lambda: member(tarfile.XHDTYPE, b"-5 path=a.png\n") + FACE + END,
    "a pax size below nothing": lambda: member(tarfile.XHDTYPE, b"11 size=-5\n") + FACE + END,
    "a pax size of many digits": lambda: member(tarfile.XHDTYPE, b"510 size=" + b"9" * 500 + b"\n") + FACE + END,
    "a pax size beyond the file": lambda: member(tarfile.XHDTYPE, b"18 size=999999999\n") + FACE + END,
    "a size below nothing": lambda: member(tarfile.REGTYPE, b"", size=-512) + FACE + END,
    "a size beyond the file": lambda: FACE + member(tarfile.REGTYPE, picture(2), size=2**40) + END,
    "a size of 2**80": lambda: FACE + member(tarfile.REGTYPE, picture(2), size=2**80) + END,
    "another volume": lambda: member(b"M", picture(1)) + END,
    "a map of holes without an end": lambda: holes(b"\1") + b"\1" * BLOCK * 4,
    "another format": lambda: b"BZh91AY&SY" + bytes(2000),
    "text": lambda: b"<html>404 Not Found</html>\n" * 100,
}


def holes(more: bytes = b"\0") -> bytes:
    """The header of a file that old GNU tar stored without its zeros."""
    head = bytearray(member(tarfile.GNUTYPE_SPARSE, b"", size=512))
    head[482:483] = more
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_whole_archive_is_refused_in_one_line(folder: Folder, what: str):
    assert folder.outcome(ODD[what]()) is None


def test_files_that_are_stored_without_their_zeros_are_bad_faces(folder: Folder):
    pax = member(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n30 GNU.sparse.name=real/b.png\n")
    data = holes() + bytes(BLOCK) + pax + FACE + member(tarfile.REGTYPE, picture(2), "c.png") + END
    sound, bad, _ = folder.read(data)
    assert (sound, bad) == (["faces.tar/c.png"], ["faces.tar/a.png", "faces.tar/real/b.png"])


def test_a_long_map_of_holes_is_one_bad_face(folder: Folder):
    holes_01 = b"GNU.sparse.map=" + b",".join(b"%d,512" % (hole * 4096) for hole in range(600))
    records = [b"GNU.sparse.size=2457600", b"GNU.sparse.name=real/b.png", holes_01]
    told = b"".join(b"%d %s\n" % (len(r) + 2 + len(str(len(r) + 5)), r) for r in records)
    data = member(tarfile.XHDTYPE, told) + FACE + member(tarfile.REGTYPE, picture(2), "c.png") + END
    sound, bad, _ = folder.read(data)
    assert (sound, bad) == (["faces.tar/c.png"], ["faces.tar/real/b.png"])


def test_the_end_of_an_archive_with_large_records_is_refused_with_what_helps(folder: Folder):
    with pytest.raises(RunError, match=r"ends in more than 11264 zeros: .* with tar's usual blocking factor \(20\)"):
        folder.read(FACE + bytes(64 * BLOCK))
    assert folder.read(FACE + bytes(22 * BLOCK))[0] == ["faces.tar/a.png"]


def test_what_systems_leave_links_and_other_files_are_passed_over_by_name(folder: Folder):
    names = ["a.png", "._a.png", "__MACOSX/a.png", "x/.ipynb_checkpoints/b.png", "./c.PNG", "d.json", "README"]
    data = b"".join(member(tarfile.REGTYPE, picture(n), name) for n, name in enumerate(names))
    data += member(tarfile.DIRTYPE, b"", "folder.png/") + member(tarfile.LNKTYPE, b"", "link.png")
    sound, bad, passed_over = folder.read(data + member(tarfile.FIFOTYPE, b"", "pipe.png") + END)
    assert (sound, bad) == (["faces.tar/a.png", "faces.tar/./c.PNG"], [])
    assert passed_over == {HIDDEN: 3, source.LINKS: 2, ".json": 1, "no suffix": 1}


def renamed(data: bytes, place: int, change: dict[str, bytes | int]) -> bytes:
    """The archive with fields of a header changed, and its checksum too."""
    info = tarfile.TarInfo.frombuf(data[place : place + BLOCK], "utf-8", "strict")
    for key, value in change.items():
        setattr(info, key, value)
    return data[:place] + info.tobuf(tarfile.USTAR_FORMAT) + data[place + BLOCK :]


@pytest.mark.parametrize("size", [600, 1536, 2000])
def test_a_size_that_covers_the_next_member_is_a_refusal_though_its_header_is_sound(folder: Folder, size: int):
    data = packed(5, tarfile.USTAR_FORMAT, text=False)
    assert folder.outcome(renamed(data, headers(data)[1], {"size": size})) is None


@pytest.mark.parametrize("size", [1024, 1100, 3000])
def test_a_file_that_is_no_picture_or_too_large_covers_nobody_either(size: int):
    sound = member(tarfile.REGTYPE, b"{}", "notes.json") + packed(3, tarfile.USTAR_FORMAT, text=False)
    for largest in (100, 2**20):
        assert len(list(tar.members(io.BytesIO(sound), is_picture, largest))) == 4
        with pytest.raises(tarfile.ReadError, match="a member goes on over the header at byte 1024: its size is wrong"):
            list(tar.members(io.BytesIO(renamed(sound, 0, {"size": size})), is_picture, largest))
    with pytest.raises(tarfile.ReadError, match="goes on over"):
        list(tar.members(io.BytesIO(renamed(sound, 1024, {"size": size})), is_picture, 100))


def test_an_old_header_without_a_magic_is_covered_by_nobody(folder: Folder):
    data = packed(5, tarfile.USTAR_FORMAT, text=False)
    for place in headers(data):
        block = bytearray(data[place : place + BLOCK])
        block[257:265], block[148:156] = bytes(8), b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        data = data[:place] + bytes(block) + data[place + BLOCK :]
    assert folder.read(data)[0] == [f"faces.tar/{number:03d}.png" for number in range(5)]
    block = bytearray(data[:BLOCK])
    block[124:136], block[148:156] = b"%011o\0" % 1536, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert folder.outcome(bytes(block) + data[BLOCK:]) is None


def test_an_archive_in_an_archive_is_passed_over(folder: Folder):
    data = member(tarfile.REGTYPE, ARCHIVES["gnu"], "more.tar") + FACE + END
    assert folder.read(data) == (["faces.tar/a.png"], [], {".tar": 1})


@pytest.mark.parametrize("kind", [b"8", b"Z"])
def test_a_member_of_an_unknown_type_is_a_file_as_posix_has_it(folder: Folder, kind: bytes):
    data = packed(3, tarfile.USTAR_FORMAT, text=False)
    assert folder.outcome(renamed(data, headers(data)[1], {"type": kind})) == folder.outcome(data)


def test_an_archive_without_a_face_is_counted(folder: Folder):
    assert folder.read(bytes(10240)) == ([], [], {".tar without a face": 1})


def test_no_more_is_read_of_a_file_than_a_picture_may_have(folder: Folder):
    with folder.file.open("wb") as file:
        file.write(member(tarfile.REGTYPE, b"", size=2**28))
        file.truncate(BLOCK + 2**28)
        file.seek(0, 2)
        file.write(FACE + END)
    found = list(tar.members(folder.file.open("rb"), lambda _: True, 2**20))
    assert [(member.name, member.content is None) for member in found] == [("a.png", True), ("a.png", False)]
