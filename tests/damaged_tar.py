"""Archives of pictures that are damaged and read, with every outcome counted."""

import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from hyperface import config
from hyperface.errors import RunError
from hyperface.faces import source
from hyperface.faces.source import Chunk

BLOCK = tarfile.BLOCKSIZE
LONG = "people/" + "x" * 120 + "/"


def picture(number: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 100, 50)).save(sink, "PNG")
    return sink.getvalue()


def packed(count: int, kind: int = tarfile.GNU_FORMAT, folder: str = "", text: bool = True) -> bytes:
    """An archive of pictures, each with a text beside it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        for number in range(count):
            texts = [("txt", b"a caption")] if text else []
            for suffix, data in [("png", picture(number)), *texts]:
                info = tarfile.TarInfo(f"{folder}{number:03d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


ARCHIVES = {
    "ustar": packed(4, tarfile.USTAR_FORMAT),
    "gnu": packed(3, tarfile.GNU_FORMAT, LONG),
    "pax": packed(3, tarfile.PAX_FORMAT, LONG + "ü/"),
}


class Folder:
    """A source of one archive, read again and again."""

    def __init__(self, path: Path, name: str = "faces.tar") -> None:
        self.file, self.name = path / name, name
        self.config = config.load(None, ["run.dir=unused", f"embed.source={path}"])

    def read(self, data: bytes) -> tuple[list[str], list[str], Counter[str]]:
        """(keys of sound faces, keys of bad ones, what was passed over)."""
        self.file.write_bytes(data)
        passed_over = Counter[str]()
        faces = list(source.read_chunk(Chunk("tar", (self.name,)), self.config, passed_over))
        sound = [face.key for face in faces if not face.problem]
        return sound, [face.key for face in faces if face.problem], passed_over

    def outcome(self, data: bytes) -> tuple[list[str], list[str], Counter[str]] | None:
        """Return what `read` returns; None for a refusal, which names the file and how many faces came before it."""
        try:
            return self.read(data)
        except RunError as error:
            said = str(error)
        assert re.fullmatch(rf"{self.file}: is not a complete tar archive \(.*; \d+ faces came before\); .*", said)
        return None


def headers(data: bytes) -> list[int]:
    """Return where the headers of an archive are."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [place for info in archive for place in range(info.offset, info.offset_data, BLOCK)]


def flip_bits(folder: Folder, data: bytes, bits: Iterable[int]) -> None:
    """Flip each of these bits of the headers: all members are read, named or counted, or the archive is refused."""
    places = headers(data)
    whole = folder.read(data)
    members = len(whole[0]) + whole[2].total()
    for bit in bits:
        place = places[bit // (8 * BLOCK)] + bit // 8 % BLOCK
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit % 8
        if found := folder.outcome(bytes(damaged)):
            assert len(found[0]) + len(found[1]) + found[2].total() == members, (place, bit % 8)
