"""Pictures of every kind that the reference path is compared over, made with Pillow and by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image


def scene(width: int = 61, height: int = 47, seed: int = 0) -> Image.Image:
    """An RGB picture with gradients, edges and noise: no two neighbours alike, no axis symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 5 + seed, y * 7, (x * y) // 3 + 40 * ((x // 7 + y // 5) % 2)]
    pixels = np.stack(planes, axis=-1) + rng.integers(0, 40, (height, width, 3))
    return Image.fromarray((pixels % 256).astype(np.uint8))


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """``image`` as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF data as a camera writes it, with an orientation from 1 to 8."""
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010F] = "maker"
    data.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    return data


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes, interlace: int = 0) -> bytes:
    """A PNG from its header's numbers and its raw (filtered) rows; ``chunks`` stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b""))
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced_png(image: Image.Image) -> bytes:
    """An RGB picture as Adam7 passes, which Pillow reads but does not write."""
    pixels = np.asarray(image)
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = pixels[y::dy, x::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return png(image.width, image.height, 8, 2, rows, interlace=1)


def _palette() -> Image.Image:
    return scene().quantize(64)


def _alpha() -> Image.Image:
    image = scene().convert("RGBA")
    image.putalpha(scene(seed=3).convert("L"))
    return image


def _grey_alpha() -> Image.Image:
    return _alpha().convert("LA")


def _bits() -> Image.Image:
    return scene().convert("1")


def _frames() -> list[Image.Image]:
    return [scene(seed=seed) for seed in (4, 5)]


# What a reader of a failing test wants to see -> the file's bytes.
PICTURES: dict[str, Callable[[], bytes]] = {
    "JPEG baseline": lambda: encoded(scene(), "JPEG", quality=80),
    "JPEG 4:4:4": lambda: encoded(scene(), "JPEG", subsampling=0),
    "JPEG progressive": lambda: encoded(scene(), "JPEG", progressive=True),
    "JPEG grey": lambda: encoded(scene().convert("L"), "JPEG"),
    "JPEG CMYK": lambda: encoded(scene().convert("CMYK"), "JPEG"),
    "JPEG with EXIF orientation": lambda: encoded(scene(), "JPEG", exif=exif(6)),
    "MPO": lambda: encoded(scene(), "MPO", save_all=True, append_images=_frames()),
    "PNG RGB": lambda: encoded(scene(), "PNG"),
    "PNG RGBA": lambda: encoded(_alpha(), "PNG"),
    "PNG palette": lambda: encoded(_palette(), "PNG"),
    "PNG palette, a byte of transparency a colour": lambda: encoded(_palette(), "PNG", transparency=bytes(range(60))),
    "PNG palette, one transparent index": lambda: encoded(_palette(), "PNG", transparency=3),
    "PNG grey": lambda: encoded(scene().convert("L"), "PNG"),
    "PNG grey with alpha": lambda: encoded(_grey_alpha(), "PNG"),
    "PNG 1 bit": lambda: encoded(_bits(), "PNG"),
    "PNG 2 bits": lambda: encoded(scene().quantize(4), "PNG", bits=2),
    "PNG RGB with a transparent colour": lambda: encoded(scene(), "PNG", transparency=(0, 0, 5)),
    "PNG grey with a transparent level": lambda: encoded(scene().convert("L"), "PNG", transparency=7),
    "PNG RGB, 16 bits a channel": lambda: png(
        5, 3, 16, 2, b"".join(b"\0" + np.arange(15, dtype=">u2").tobytes() * 2 for _ in range(3))
    ),
    "PNG interlaced": lambda: interlaced_png(scene()),
    "PNG animated": lambda: encoded(scene(), "PNG", save_all=True, append_images=_frames()),
    "WebP lossy": lambda: encoded(scene(), "WEBP"),
    "WebP lossless": lambda: encoded(scene(), "WEBP", lossless=True),
    "WebP with alpha": lambda: encoded(_alpha(), "WEBP"),
    "WebP animated": lambda: encoded(scene(), "WEBP", save_all=True, append_images=_frames()),
    "GIF": lambda: encoded(_palette(), "GIF"),
    "GIF animated": lambda: encoded(_palette(), "GIF", save_all=True, append_images=_frames()),
    "GIF transparent": lambda: encoded(_palette(), "GIF", transparency=5),
    "BMP 24 bits": lambda: encoded(scene(), "BMP"),
    "BMP 8 bits": lambda: encoded(_palette(), "BMP"),
    "BMP 1 bit": lambda: encoded(_bits(), "BMP"),
    "1 x 1": lambda: encoded(scene(1, 1), "PNG"),
    "1 x 1000": lambda: encoded(scene(1, 1000), "PNG"),
    "1000 x 1": lambda: encoded(scene(1000, 1), "JPEG"),
    "exactly 150 x 150": lambda: encoded(scene(150, 150), "PNG"),
    "exactly 8 x 8": lambda: encoded(scene(8, 8), "PNG"),
    "smaller than the target": lambda: encoded(scene(7, 5), "BMP"),
    "a larger photograph": lambda: encoded(scene(640, 427), "JPEG"),
}
