"""Pictures that others made: upright, with the greys they have, and only those that somebody meant as one."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hyperface.faces.pictures import LARGEST_SIDE, decode, is_picture, other_kind
from hyperface.storage.walk import hidden

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 2**16, (6, 4), dtype=np.uint16)
TURNED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB, 1),
    7: RGB[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(RGB, -1),
}
"""Stored forms of the upright picture RGB, by the orientation that a camera notes."""


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **how)
    return sink.getvalue()


def tiff(bits: int, pixels: bytes, width: int, *, white_is_zero: bool = False) -> bytes:
    """One row of grey pixels."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 277: 1, 278: 1, 279: len(pixels)}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + pixels


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_the_camera_noted(kind: str, orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation]))
    how = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(stored, kind, exif=exif, **how)), RGB)


def test_a_jpeg_is_turned_as_the_camera_noted():
    exif = Image.Exif()
    exif[274] = 6
    lying = Image.fromarray(RGB)
    plain = decode(encoded(lying, "JPEG", quality=95))
    np.testing.assert_array_equal(decode(encoded(lying, "JPEG", quality=95, exif=exif)), np.rot90(plain, -1))


@pytest.mark.parametrize("tags", [b"XX*\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05", b"MM\0*\0\0\0\x08", b""])
def test_broken_tags_leave_a_sound_picture_as_it_is(tags: bytes):
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0" + tags)), RGB)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB), "PNG", exif=exif)), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_sixteen_bits_keeps_its_upper_eight(kind: str):
    found = decode(encoded(Image.fromarray(GREY16), kind))
    np.testing.assert_array_equal(found, np.repeat((GREY16 >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("stored", "grey"),
    [
        (tiff(16, struct.pack("<4H", 0, 256, 32768, 65535), 4), [0, 1, 128, 255]),
        (tiff(16, struct.pack("<4H", 0, 256, 32768, 65535), 4, white_is_zero=True), [255, 254, 127, 0]),
        (tiff(12, b"\xff\xf8\x00\x00\x00\x10", 4), [255, 128, 0, 1]),
        (encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"), [0, 128, 255]),
    ],
)
def test_a_grey_scan_keeps_its_greys(stored: bytes, grey: list[int]):
    np.testing.assert_array_equal(decode(stored)[0, :, 0], grey)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_a_picture_whose_white_nobody_knows_is_refused(kind: type):
    with pytest.raises(ValueError, match="which number is white nobody can say"):
        decode(encoded(Image.fromarray(np.array([[0, 1000]], kind)), "TIFF"))


def test_colours_beside_transparency_are_those_of_the_file():
    opaque = Image.fromarray(RGB)
    alpha = Image.fromarray(RNG.integers(0, 256, (6, 4), dtype=np.uint8))
    opaque.putalpha(alpha)
    np.testing.assert_array_equal(decode(encoded(opaque, "PNG")), RGB)
    grey = Image.merge("LA", (Image.fromarray(RGB[..., 0]), alpha))
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")), np.repeat(RGB[..., :1], 3, axis=2))
    palette = Image.fromarray(RGB).quantize(16)
    colours = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(palette, "PNG", transparency=bytes(range(16)))), colours)


def test_of_an_animation_the_first_frame_is_taken():
    first, second = (Image.fromarray(pixels).quantize(16) for pixels in (RGB, RGB[::-1].copy()))
    moving = encoded(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(moving), decode(encoded(first, "GIF")))


def test_a_print_in_four_inks_becomes_what_it_shows():
    inks = Image.fromarray(np.full((8, 8, 4), (0, 0, 0, 255), np.uint8), "CMYK")
    assert decode(encoded(inks, "TIFF")).max() == 0
    assert decode(encoded(inks, "JPEG")).max() <= 2


def test_a_scan_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    with pytest.raises(ValueError, match=f"at most {LARGEST_SIDE}"):
        decode(tiff(8, b"\0", LARGEST_SIDE + 1))


def test_a_tag_of_another_type_than_the_standard_has_is_one_broken_picture():
    stored = tiff(8, b"\0\0\0\0", 4).replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 7))
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(stored)


def test_sound_pictures_are_decoded_to_the_bytes_that_pillow_gives():
    grey, two = Image.fromarray(RGB[..., 0]), Image.fromarray(RGB[..., 0] > 99)
    for image in (Image.fromarray(RGB), grey, two, Image.fromarray(RGB).quantize(9)):
        for kind in ("PNG", "BMP", "JPEG") if image.mode != "P" else ("PNG", "BMP"):
            stored = encoded(image, kind)
            with Image.open(io.BytesIO(stored)) as opened:
                np.testing.assert_array_equal(decode(stored), np.asarray(opened.convert("RGB")))


def test_sixteen_bits_of_grey_and_of_colour_agree():
    def png(color_type: int, row: bytes) -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, color_type, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")

    np.testing.assert_array_equal(decode(png(0, b"\x80\xff")), decode(png(2, b"\x80\xff" * 3)))


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "person/.ipynb_checkpoints/a.jpg",
        ".Trash-1000/files/a.jpg",
        "person/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/person/._a.jpg",
        "person/._a.jpg",
        "./person/.hidden.png",
        "lost+found/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        "System Volume Information/a.jpg",
        "#recycle/person/a.jpg",
    ],
)
def test_what_is_hidden_or_made_by_a_system_is_nobodys_picture(name: str):
    assert hidden(name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "./person/a.jpg", "../person/a.jpg", "/data/a.jpg", "@ada/a.jpg", "a.b/c.jpg"]
)
def test_what_is_not_hidden_may_be_a_picture(name: str):
    assert not hidden(name)


@pytest.mark.parametrize("name", ["a.JPG", "a.jfif", "a.Tif", "a.TIFF", "a.gif", "x/y.jpeg", "a.webp"])
def test_pictures_are_known_by_the_endings_that_others_take(name: str):
    assert is_picture(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", ".jpg", "a.jpg.txt", "a.jpg~"])
def test_other_files_are_no_pictures(name: str):
    assert not is_picture(name)


def test_a_suffix_is_counted_as_it_is_shown():
    assert [other_kind(name) for name in ("a.JSON", "b", "c.\u202efpj", "d.\u00fc", ".e.json", "f.png")] == [
        *(".json", "no suffix", r".\u202efpj", ".\u00fc", "hidden", "")
    ]


def with_scans(more: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    sink = io.BytesIO()
    Image.new("L", (64, 64)).save(sink, "JPEG", progressive=True)
    data = sink.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more + data[-2:]


def test_a_jpeg_that_goes_over_its_pixels_without_end_is_refused_before_it_is_decoded():
    """A megabyte of such scans, with 4096 pixels a side, took a quarter of an hour."""
    assert decode(with_scans(90)).shape == (64, 64, 3)
    with pytest.raises(ValueError, match="must have at most 100 scans"):
        decode(with_scans(100))


def test_only_scans_of_the_picture_are_counted():
    """Scans of a film behind the picture, or of small pictures among its notes, do not count."""
    data = with_scans(0)
    note = b"\xff\xe1" + (2 + 600).to_bytes(2) + b"\xff\xda" * 300
    assert decode(data[:2] + note + data[2:] + b"\xff\xda\0\2" * 300).shape == (64, 64, 3)
