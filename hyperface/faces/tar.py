"""Tar archives that others wrote, read as a stream: whole, or not at all.

`tarfile` takes a bad header for the end of the archive, and reads headers and maps of any length. Here a header must
be sound, what belongs to no picture is skipped in pieces, and the archive ends where the format says that it ends: in
two blocks of zeros, filled up to a record. What follows them, another archive as well, cannot be told from an archive
that zeros were written over, and is refused.
"""

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tarfile import BLOCKSIZE, RECORDSIZE, ReadError, TarInfo
from typing import BinaryIO, Literal

from hyperface.reading.unpacking import LARGEST_RATIO, believed

LONGEST_HEADER = 2**20
"""Largest number of bytes of an extended header: it holds names, times and attributes of one file."""
LONGEST_NAME = 4096
"""Most letters of a name, as file systems have it."""
LONGEST_END = 2 * BLOCKSIZE + RECORDSIZE
_PIECE = 2**20
"""Bytes that are read at once, whole blocks."""
_CHECKSUM = slice(148, 154)
"""Bytes of a header that hold the digits of its checksum."""
_OF_GNU = (b"D", b"V")
"""Types of a list of a folder's names, and of the archive's own name. Any other type is a file, as POSIX has it."""


@dataclass(frozen=True)
class Member:
    """A file of an archive, or what stands in for one."""

    name: str
    kind: Literal["file", "sparse", "other"]
    """`sparse`: a file stored without its zeros; `other`: a link or a device."""
    content: bytes | None
    """Content of the file; None where nobody asked for it, or it is too large."""


def members(file: BinaryIO, wanted: Callable[[str], bool], largest: int) -> Iterator[Member]:
    """All members but folders, in their order.

    Args:
        file: seekable, at its begin; may be packed by gzip.
        wanted: returns whether to read the content of a name.
        largest: most bytes of a content.

    Raises:
        tarfile.ReadError: it is no whole archive, or claims more than is believed; says where.
        OSError: the file cannot be read.
    """
    stream = _Stream(file)
    everywhere, here, pending = dict[str, str](), dict[str, str](), False
    while (found := stream.header()) is not None:
        info, block = found
        match info.type:
            case tarfile.GNUTYPE_LONGNAME:
                here["path"] = _text(stream.extended(info.size).rstrip(b"\0"))
            case tarfile.GNUTYPE_LONGLINK:
                stream.extended(info.size)
            case tarfile.XHDTYPE | tarfile.SOLARIS_XHDTYPE:
                here |= _pax(stream.extended(info.size))
            case tarfile.XGLTYPE:
                everywhere |= _pax(stream.extended(info.size))
                continue
            case _:
                if info.type != tarfile.DIRTYPE:
                    yield _member(stream, info, block, everywhere | here, wanted, largest)
                here, pending = {}, False
                continue
        pending = True
    if pending:
        raise ReadError("its last header belongs to no member")


def _member(
    stream: "_Stream", info: TarInfo, block: bytes, headers: dict[str, str], wanted: Callable[[str], bool], largest: int
) -> Member:
    """Read one member of an archive; `headers` are the records of its extended headers."""
    name, size = headers.get("path") or info.name, int(headers.get("size", info.size))
    if info.type == tarfile.GNUTYPE_SPARSE:
        more = block[482]
        while more:  # blocks with the rest of the map
            more = stream.take(BLOCKSIZE)[504]
        stream.skip(size, name)
        return Member(name, "sparse", None)
    if info.type in tarfile.SUPPORTED_TYPES and info.type not in tarfile.REGULAR_TYPES:
        return Member(name, "other", None)  # whatever size it claims
    if info.type in _OF_GNU:
        stream.skip(size, name)
        return Member(name, "other", None)
    if info.type == b"M":
        raise ReadError(f"byte {stream.at - BLOCKSIZE} goes on with a file of another volume")
    if any(key.startswith("GNU.sparse.") for key in headers):
        name = headers.get("GNU.sparse.name", name)
        stream.skip(size, name)
        return Member(name, "sparse", None)
    if size > largest or not wanted(name):
        stream.skip(size, name)
        return Member(name, "file", None)
    content = stream.take(size)
    _refuse_headers(content, stream.at - size)
    stream.take(-size % BLOCKSIZE)
    return Member(name, "file", content)


def _refuse_headers(content: bytes, start: int) -> None:
    """Raise ReadError where a file holds a sound header of a member, which none but an archive does.

    Args:
        content: bytes of the file from the begin of a block at `start`.
    """
    for begin in range(0, len(content), BLOCKSIZE):
        block = content[begin : begin + BLOCKSIZE]
        if block[_CHECKSUM].strip(b" \0").isdigit():
            with contextlib.suppress(tarfile.HeaderError):
                TarInfo.frombuf(block, "utf-8", "surrogateescape")
                raise ReadError(f"a member goes on over the header at byte {start + begin}: its size is wrong")


def _text(data: bytes) -> str:
    if len(data) > LONGEST_NAME:
        raise ReadError(f"a name has {len(data)} bytes; believed are {LONGEST_NAME}")
    if not data or b"\0" in data:
        raise ReadError("a name is empty, or ends before its header")
    return data.decode("utf-8", "surrogateescape").rstrip("/")


def _pax(data: bytes) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` that say where a file's bytes are and what it is called."""
    records, at = dict[str, str](), 0
    data = data.rstrip(b"\0")
    while at < len(data):
        digits = data[at : at + 8].split(b" ", 1)[0]
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not (equals and at < end <= len(data) and data[end - 1 : end] == b"\n"):
            raise ReadError("a pax header is damaged")
        if key == b"size" and not (value.isdigit() and len(value) < 20):
            raise ReadError(f"a pax header says that a size is {_text(value[:20])!a}")
        if key in (b"path", b"size", b"GNU.sparse.name"):
            records[key.decode()] = _text(value)
        elif key.startswith(b"GNU.sparse."):
            records["GNU.sparse."] = ""  # a map of holes may be long, and nobody reads it
        at = end
    return records


class _Stream:
    """The bytes of an archive, unpacked, with what is wrong about them said in one line."""

    def __init__(self, file: BinaryIO) -> None:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file, self._packed = file, packed
        self._bytes = gzip.GzipFile(fileobj=file) if packed else file
        self.at = 0

    def header(self) -> tuple[TarInfo, bytes] | None:
        """The next header and its block; None at the end of a whole archive."""
        place, block = self.at, self._read(BLOCKSIZE)
        if block.count(0) == len(block):
            self._end(len(block))
            return None
        try:
            info = TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ReadError(f"byte {place} begins no header: {error}") from error
        if info.size < 0:
            raise ReadError(f"byte {place} begins a header with the size {info.size}")
        return info, block

    def take(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise ReadError(f"it ends at byte {self.at}, within {size} bytes that it claims to have")
        return data

    def skip(self, size: int, name: str) -> None:
        """Go to the block after a member of which so many bytes are left, and look what it holds by its name."""
        left = size + -(self.at + size) % BLOCKSIZE
        while left > 0:
            piece = self.take(min(left, _PIECE))
            if not name.lower().endswith(".tar"):
                _refuse_headers(piece, self.at - len(piece))
            left -= len(piece)

    def extended(self, size: int) -> bytes:
        if size > LONGEST_HEADER:
            raise ReadError(
                f"byte {self.at - BLOCKSIZE} begins a header of {size} bytes; believed are {LONGEST_HEADER}"
            )
        data = self.take(size)
        self.take(-size % BLOCKSIZE)
        return data

    def _end(self, zeros: int) -> None:
        while more := self._read(RECORDSIZE):
            if more.count(0) < len(more):
                raise ReadError(f"it goes on after zeros before byte {self.at}: written over, or another archive")
            zeros += len(more)
            if zeros > LONGEST_END:
                why = "written over, not copied whole, or to be packed again with tar's usual blocking factor (20)"
                raise ReadError(f"it ends in more than {LONGEST_END} zeros: {why}")
        if zeros < 2 * BLOCKSIZE:
            raise ReadError(f"it ends at byte {self.at}, without the two blocks of zeros that end an archive")

    def _read(self, size: int) -> bytes:
        try:
            data = self._bytes.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ReadError(f"what gzip packed is cut or damaged after byte {self.at}: {error}") from error
        self.at += len(data)
        if self._packed and self.at > believed(self._file.tell()):
            raise ReadError(f"it unpacks to more than {LARGEST_RATIO} times its bytes")
        return data
