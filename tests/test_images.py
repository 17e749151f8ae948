"""What is refused as a picture, by whom and with which words; and that nothing else than an ImageError comes out."""

from __future__ import annotations

import io
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serverless_bees import Predictor, Settings, Spec
from serverless_bees.errors import (
    ImageError,
    ImageTooLargeError,
    InvalidImageError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from serverless_bees.images import MAX_JPEG_SCANS, PixelEncoder, decode_image, from_array, open_image, read_file
from serverless_bees.modelfile import Tensor
from tests.support.pictures import PICTURES, encoded, exif, png, png_chunk, scene

SETTINGS = Settings()
TENSOR = Tensor("pixels", (1, 8, 8, 3), "float32")
ENCODERS = [
    PixelEncoder(Spec(("a", "b"), exif_transpose=True, resample=resample), TENSOR)
    for resample in ("nearest", "bilinear")
]
FORMATS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(scene(), "JPEG"),
    "progressive JPEG": lambda: encoded(scene(), "JPEG", progressive=True),
    "PNG": lambda: encoded(scene(), "PNG"),
    "WebP": lambda: encoded(scene(), "WEBP"),
    "lossless WebP": lambda: encoded(scene(), "WEBP", lossless=True),
    "GIF": lambda: encoded(scene().quantize(64), "GIF"),
    "BMP": lambda: encoded(scene(), "BMP"),
}

NOT_ON_THE_LIST: dict[str, Callable[[], bytes]] = {
    "TIFF": lambda: encoded(scene(), "TIFF"),
    "PPM": lambda: encoded(scene(), "PPM"),
    "ICO": lambda: encoded(scene(32, 32), "ICO"),
    "PDF": lambda: encoded(scene(), "PDF"),
    "EPS": lambda: encoded(scene(), "EPS"),
    "TGA": lambda: encoded(scene(), "TGA"),
    "PCX": lambda: encoded(scene(), "PCX"),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "AVIF": lambda: b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(64),
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
    "JPEG 2000": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64),
    "Photoshop": lambda: b"8BPS\0\x01" + bytes(64),
    "HTML": lambda: b"<!doctype html><title>404 Not Found</title>",
    "text": lambda: b"no picture at all",
    "WAV": lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(32),
    "a WebP's name without its container": lambda: b"RIFX\x24\0\0\0WEBPVP8 " + bytes(32),
    "zip": lambda: b"PK\x03\x04" + bytes(64),
    "zeros": lambda: bytes(100),
    "one byte": lambda: b"\xff",
    "a JPEG's first two bytes": lambda: b"\xff\xd8",
    "a picture behind a blank": lambda: b" " + encoded(scene(), "PNG"),
}


@pytest.mark.parametrize("data", NOT_ON_THE_LIST.values(), ids=NOT_ON_THE_LIST)
def test_format_that_is_not_on_the_list_is_refused(data: Callable[[], bytes]) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="JPEG, PNG, WEBP, GIF, BMP") as caught:
        decode_image(data(), SETTINGS)
    assert caught.value.type == "unsupported-media-type"


def test_refused_formats_never_reach_pillow() -> None:
    """Not even their decoders are imported: a hole in one of them is no hole of ours."""
    code = """
import sys
from pathlib import Path
from serverless_bees import Predictor
predictor = Predictor(runtime="litert-c")
for path in sys.argv[1:]:
    try:
        predictor.predict(path)
    except Exception as error:
        print(type(error).__name__)
print(sorted(name for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, __file__, sys.executable], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["UnsupportedMediaTypeError", "PayloadTooLargeError", "[]"] or (
        Path(sys.executable).stat().st_size < SETTINGS.max_image_bytes
        and done.stdout.splitlines() == ["UnsupportedMediaTypeError"] * 2 + ["[]"]
    )


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")], ids=["bytes", "bytearray", "memoryview"])
def test_nothing_at_all_is_an_invalid_image(data: Any) -> None:
    with pytest.raises(InvalidImageError, match=r"empty \(0 bytes\)"):
        Predictor().predict(data)


@pytest.mark.parametrize("name", FORMATS)
def test_half_a_picture_is_refused_and_says_so(name: str) -> None:
    data = FORMATS[name]()
    with pytest.raises(InvalidImageError, match=r"truncated|broken"):
        decode_image(data[: len(data) // 2], SETTINGS)


def survives(data: bytes) -> bool:
    """Whether the picture decodes, or else is refused by an ImageError; anything else fails the test."""
    try:
        image = open_image(data, SETTINGS)
        for encoder in ENCODERS:
            assert len(encoder.encode(image)) == TENSOR.nbytes
    except ImageError as caught:
        error = caught
    else:
        return True
    assert str(error)
    assert " at 0x" not in str(error)  # the same bytes have the same answer everywhere
    return False


@pytest.mark.parametrize("name", PICTURES)
def test_truncated_at_any_point_it_is_an_image_error_or_a_picture(name: str) -> None:
    data = PICTURES[name]()
    assert survives(data)
    cuts = {*range(1, 64), *(len(data) * part // 60 for part in range(1, 60)), *range(len(data) - 16, len(data))}
    outcomes = {survives(data[:cut]) for cut in sorted(cuts) if 0 < cut < len(data)}
    assert False in outcomes


DAMAGED: dict[str, Callable[[], bytes]] = {
    **PICTURES,
    "JPEG with EXIF": lambda: encoded(scene(), "JPEG", dpi=(72, 72), exif=exif(6)),
    "PNG with EXIF": lambda: encoded(scene(), "PNG", exif=exif(6)),
    "WebP with EXIF": lambda: encoded(scene(), "WEBP", exif=exif(6)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_picture_is_an_image_error_or_a_picture_and_quick(name: str) -> None:
    data, rng = DAMAGED[name](), random.Random(name)
    outcomes, slowest = set(), 0.0
    for index in range(120):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            # every other time near the beginning, where the structure is
            at = rng.randrange(len(data) if index % 2 else min(len(data), 200))
            damaged[at] = rng.choice((0, 0xFF, 0x7F, rng.randrange(256), damaged[at] ^ (1 << rng.randrange(8))))
        start = time.process_time()
        outcomes.add(survives(bytes(damaged)))
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 2
    assert False in outcomes


@pytest.mark.parametrize("orientation", [b"II*\0", b"MM\x7f*\0\0\0\x08", b"MM\0*", b"XX\0*", b"", b"\xff" * 30])
def test_broken_exif_data_leaves_the_picture_as_it_is(orientation: bytes) -> None:
    data = encoded(scene(), "JPEG", dpi=(72, 72), exif=b"Exif\0\0" + orientation + b"\0" * 3)
    plain = ENCODERS[0].encode(open_image(encoded(scene(), "JPEG"), SETTINGS))
    assert ENCODERS[0].encode(open_image(data, SETTINGS)) == plain


def patched(data: bytes, at: int, form: str, *numbers: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *numbers)
    return bytes(changed)


def jpeg_of(width: int, height: int) -> bytes:
    data = encoded(scene(), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">HH", height, width)


def webp_of(width: int, height: int) -> bytes:
    data = encoded(scene(), "WEBP", lossless=True)
    return patched(data, data.index(b"VP8L") + 9, "<I", (width - 1) | (height - 1) << 14)


def gif_frame_of(width: int, height: int) -> bytes:
    """The screen is small, the frame is not."""
    data = encoded(scene().quantize(4), "GIF")
    return patched(data, re.search(rb",\0\0\0\0=\0/\0", data).start() + 5, "<HH", width, height)  # type: ignore[union-attr]


BOMBS: dict[str, tuple[Callable[[], bytes], int]] = {
    "PNG": (lambda: png(60000, 60000, 8, 2, bytes(100)), 60000 * 60000),
    "PNG 1 bit": (lambda: png(60000, 60000, 1, 0, bytes(100)), 60000 * 60000),
    "PNG 2**31": (lambda: png(2**31 - 1, 2**31 - 1, 8, 2, bytes(9)), (2**31 - 1) ** 2),
    "JPEG": (lambda: jpeg_of(60000, 60000), 60000 * 60000),
    "GIF screen": (lambda: patched(encoded(scene().quantize(4), "GIF"), 6, "<HH", 60000, 60000), 60000 * 60000),
    "GIF frame": (lambda: gif_frame_of(60000, 60000), 60000 * 60000),
    "BMP": (lambda: patched(encoded(scene(), "BMP"), 18, "<ii", 60000, 60000), 60000 * 60000),
    "BMP upside down": (lambda: patched(encoded(scene(), "BMP"), 18, "<ii", 60000, -60000), 60000 * 60000),
    "WebP": (lambda: webp_of(16383, 16383), 16383 * 16383),
}


@pytest.mark.parametrize(("data", "pixels"), BOMBS.values(), ids=BOMBS)
def test_bomb_is_refused_by_its_header(data: Callable[[], bytes], pixels: int) -> None:
    start = time.process_time()
    with pytest.raises(ImageTooLargeError, match=str(pixels)) as caught:
        decode_image(data(), SETTINGS)
    assert time.process_time() - start < 0.5
    assert re.search(r"limit (is|of) \d+", str(caught.value))
    assert caught.value.type == "image-too-large"


MEASURED = """
import resource, sys
from pathlib import Path
from serverless_bees import Settings
from serverless_bees.errors import ImageError
from serverless_bees.images import decode_image

def kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

first, *rest = [Path(path).read_bytes() for path in sys.argv[1:]]
for data in rest:
    decode_image(data, Settings())
before = kilobytes()
try:
    print(decode_image(first, Settings()))
except ImageError as error:
    print(kilobytes() - before, type(error).__name__)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_refused_bomb_takes_no_memory(name: str, tmp_path: Path) -> None:
    files = []
    for index, data in enumerate([BOMBS[name][0](), *(make() for make in FORMATS.values())]):
        files.append(tmp_path / str(index))
        files[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, files)], capture_output=True, text=True, check=True, timeout=60
    )
    growth, error = done.stdout.split()
    assert error == "ImageTooLargeError"
    assert int(growth) < 8192  # a decoded one would take 178 MB at the least


@pytest.mark.parametrize("name", FORMATS)
def test_limit_of_pixels_is_exact_and_named(name: str) -> None:
    data, pixels = FORMATS[name](), 61 * 47
    assert decode_image(data, SETTINGS._replace(max_image_pixels=pixels)).size == (61, 47)
    with pytest.raises(
        ImageTooLargeError,
        match=rf"61 x 47 = {pixels} pixels, the limit is {pixels - 1} \(SERVERLESS_BEES_MAX_IMAGE_PIXELS\)",
    ):
        decode_image(data, SETTINGS._replace(max_image_pixels=pixels - 1))


@pytest.mark.parametrize("name", FORMATS)
def test_limit_of_bytes_is_exact_and_named(name: str, tmp_path: Path) -> None:
    data = FORMATS[name]()
    decode_image(data, SETTINGS._replace(max_image_bytes=len(data)))
    low = SETTINGS._replace(max_image_bytes=len(data) - 1)
    expected = rf"has {len(data)} bytes, the limit is {len(data) - 1} \(SERVERLESS_BEES_MAX_IMAGE_BYTES\)"
    with pytest.raises(PayloadTooLargeError, match=expected) as caught:
        decode_image(data, low)
    assert caught.value.type == "payload-too-large"
    file = tmp_path / "picture"
    file.write_bytes(data)
    with pytest.raises(PayloadTooLargeError, match=expected):
        Predictor(settings=low).predict(file)


def test_endless_file_is_read_up_to_the_limit() -> None:
    assert len(read_file("/dev/zero", SETTINGS._replace(max_image_bytes=1000))) == 1001


@pytest.mark.parametrize("limit", [2000, 1000])
@pytest.mark.parametrize("name", [name for name in FORMATS if "WebP" not in name])
def test_our_limit_rules_where_pillows_is_lower(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns from its 89 million pixels on and raises from twice that; who sets ours higher means it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert decode_image(FORMATS[name](), SETTINGS).size == (61, 47)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (FORMATS["WebP"], 1000),
        (lambda: gif_frame_of(70, 60), 4000),  # a warning of Pillow's, which is an error here
        (lambda: gif_frame_of(70, 60), 2000),
    ],
    ids=["WebP", "GIF, warning", "GIF, error"],
)
def test_where_pillow_insists_on_its_own_limit_it_is_an_image_error(
    data: Callable[[], bytes], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of its readers look by themselves, before they ask for memory."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ImageTooLargeError, match=r"exceeds limit of \d+"):
        decode_image(data(), SETTINGS)


def test_text_that_inflates_is_refused() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(InvalidImageError, match=r"[Tt]oo large"):
        decode_image(png(1, 1, 8, 2, bytes(4), bomb), SETTINGS)


DEEP = {
    "16-bit grey PNG": (
        lambda: encoded(Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000), "PNG"),
        "I;16",
    ),
    "16-bit grey PNG by hand": (lambda: png(2, 1, 16, 0, bytes(5)), "I;16"),
}


@pytest.mark.parametrize(("data", "mode"), DEEP.values(), ids=DEEP)
def test_deep_grey_is_refused_and_not_made_white(data: Callable[[], bytes], mode: str) -> None:
    with pytest.raises(InvalidImageError, match=rf"16 or 32 bits deep \(mode {mode}\); convert it"):
        decode_image(data(), SETTINGS)
    assert open_image(data(), SETTINGS).mode == mode  # the reference path's own download_image takes it


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_deep_pil_image_is_refused(mode: str) -> None:
    with pytest.raises(InvalidImageError, match=f"mode {mode}"):
        Predictor().predict(Image.new(mode, (5, 6)))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
@pytest.mark.parametrize("resample", ["nearest", "bilinear"])
def test_every_other_mode_of_pil_gives_what_converting_first_gives(mode: str, resample: str) -> None:
    rng = np.random.default_rng(1)
    bands = Image.new(mode, (1, 1)).getbands()
    image = Image.frombytes(mode, (40, 30), rng.bytes(150 if mode == "1" else 40 * 30 * len(bands)))
    if mode in ("P", "PA"):
        image.putpalette(rng.bytes(768))
    encoder = PixelEncoder(Spec(("a", "b"), mean=None, std=None, resample=resample), TENSOR._replace(dtype="uint8"))
    expected = image.convert("RGB").resize((8, 8), Image.Resampling[resample.upper()])
    assert encoder.encode(image) == expected.tobytes()


def test_pil_image_without_a_way_to_rgb_is_an_invalid_image() -> None:
    with pytest.raises(InvalidImageError, match=r"\(La, 5 x 6\) cannot be made RGB, 8 x 8"):
        ENCODERS[0].encode(Image.new("La", (5, 6)))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_pil_image_without_pixels_is_an_invalid_image(size: tuple[int, int]) -> None:
    for encoder in ENCODERS:
        with pytest.raises(InvalidImageError, match=f"no pixels \\({size[0]} x {size[1]}\\)"):
            encoder.encode(Image.new("RGB", size))


@pytest.mark.parametrize("name", [name for name in FORMATS if "WebP" not in name])  # which Pillow reads at once
def test_truncated_file_that_the_user_opened_is_an_invalid_image(name: str) -> None:
    """PIL reads the pixels only when they are needed, which is in our hands."""
    data = FORMATS[name]()
    image = Image.open(io.BytesIO(data[: len(data) * 2 // 3]))
    with pytest.raises(InvalidImageError, match="cannot be made RGB"):
        Predictor().predict(image)


ARRAYS = {
    "colour": (np.zeros((5, 6, 3), np.uint8), "RGB"),
    "grey": (np.zeros((5, 6), np.uint8), "L"),
    "grey, one channel": (np.zeros((5, 6, 1), np.uint8), "L"),
    "a view, mirrored": (np.zeros((5, 12, 3), np.uint8)[::-1, ::2], "RGB"),
    "column-major": (np.asfortranarray(np.zeros((5, 6, 3), np.uint8)), "RGB"),
}
NO_PICTURES = {
    "float": np.zeros((5, 6, 3), np.float32),
    "signed": np.zeros((5, 6, 3), np.int8),
    "bool": np.zeros((5, 6), np.bool_),
    "16 bits": np.zeros((5, 6), np.uint16),
    "alpha": np.zeros((5, 6, 4), np.uint8),
    "two channels": np.zeros((5, 6, 2), np.uint8),
    "a batch": np.zeros((1, 5, 6, 3), np.uint8),
    "a row": np.zeros(6, np.uint8),
    "a number": np.uint8(3),
    "no height": np.zeros((0, 6, 3), np.uint8),
    "no width": np.zeros((5, 0, 3), np.uint8),
    "no channels": np.zeros((5, 6, 0), np.uint8),
}


@pytest.mark.parametrize(("array", "mode"), ARRAYS.values(), ids=ARRAYS)
def test_array_is_a_picture(array: Any, mode: str) -> None:
    array = array.copy() if array.flags.c_contiguous else array
    array[1:3, 2] = 200
    image = from_array(array)
    assert (image.mode, image.size) == (mode, (6, 5))
    assert np.array_equal(np.asarray(image).reshape(array.shape), array)


@pytest.mark.parametrize("array", NO_PICTURES.values(), ids=NO_PICTURES)
def test_array_of_another_shape_or_type_is_refused_by_name(array: Any) -> None:
    with pytest.raises(InvalidImageError, match="uint8 of shape") as caught:
        from_array(array)
    assert f"not {array.dtype} of shape {array.shape}" in str(caught.value)


def progressive_with(scans: int) -> bytes:
    data = encoded(scene(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - data.count(b"\xff\xda")) + data[-2:]


def test_jpeg_of_many_scans_is_refused() -> None:
    with pytest.raises(InvalidImageError, match=rf"{MAX_JPEG_SCANS + 1} scans, the limit is {MAX_JPEG_SCANS}"):
        decode_image(progressive_with(MAX_JPEG_SCANS + 1), SETTINGS)
    assert decode_image(progressive_with(MAX_JPEG_SCANS), SETTINGS).size == (61, 47)


def test_photograph_with_a_film_behind_it_is_a_photograph() -> None:
    """As telephones write it: megabytes of film, in which every marker of a JPEG turns up by chance."""
    data = encoded(scene(), "JPEG")
    film = random.Random(1).randbytes(15_000_000)
    assert film.count(b"\xff\xda") > MAX_JPEG_SCANS
    assert decode_image(data + film, SETTINGS).tobytes() == decode_image(data, SETTINGS).tobytes()


POLYGLOTS = {
    "PNG's name, JPEG's body": lambda: b"\x89PNG\r\n\x1a\n" + encoded(scene(), "JPEG"),
    "JPEG's name, PNG's body": lambda: b"\xff\xd8\xff" + encoded(scene(), "PNG"),
    "BMP's name, a sentence": lambda: b"BMW builds cars, and this is no picture of one at all.",
    "GIF's name, a page": lambda: b"GIF89a/*<script>alert(1)</script>*/=1;" + bytes(50),
    "WebP's name, WAV's body": lambda: b"RIFF\x24\0\0\0WEBPfmt " + bytes(32),
    "JPEG's name, a PostScript program": lambda: b"\xff\xd8\xff%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(50),
}


@pytest.mark.parametrize("data", POLYGLOTS.values(), ids=POLYGLOTS)
def test_no_other_decoder_has_a_try(data: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidImageError, match=r"(JPEG|PNG|WEBP|GIF|BMP) picture is (truncated or )?broken"):
        decode_image(data(), SETTINGS)


@pytest.mark.parametrize("name", FORMATS)
def test_what_stands_behind_a_picture_changes_nothing(name: str) -> None:
    data = FORMATS[name]()
    for tail in (encoded(scene(9, 9), "PNG"), b"PK\x03\x04" + bytes(100), b"<script>"):
        assert decode_image(data + tail, SETTINGS).tobytes() == decode_image(data, SETTINGS).tobytes()


@pytest.mark.parametrize(
    ("size", "target", "decoded"),
    [
        ((1600, 1200), (300, 300), (400, 300)),  # by 4
        ((1599, 1199), (300, 300), (800, 600)),  # by 4 it would be 1 row short: by 2
        ((600, 600), (300, 300), (300, 300)),
        ((599, 599), (300, 300), (599, 599)),
        ((2400, 310), (300, 300), (2400, 310)),
        ((2000, 1500), (64, 64), (250, 188)),  # by 8 at most
        ((100, 80), (300, 300), (100, 80)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK", "progressive"])
def test_scaled_decode_is_the_smallest_that_keeps_the_target(
    size: tuple[int, int], target: tuple[int, int], decoded: tuple[int, int], kind: str
) -> None:
    image = scene(*size).convert(kind) if kind != "progressive" else scene(*size)
    data = encoded(image, "JPEG", progressive=kind == "progressive")
    assert decode_image(data, SETTINGS, target).size == decoded
    assert decode_image(data, SETTINGS).size == size


@pytest.mark.parametrize("name", [name for name in FORMATS if "JPEG" not in name])
def test_only_jpeg_has_a_scaled_decode(name: str) -> None:
    data = FORMATS[name]()
    assert decode_image(data, SETTINGS, (4, 4)).tobytes() == decode_image(data, SETTINGS).tobytes()


def test_fast_predictor_decodes_to_twice_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(scene(1600, 1400), "JPEG")
    image = Image.open(io.BytesIO(data))
    image.draft(None, (300, 300))
    assert image.size == (400, 350)
    fast, exact = Predictor(decode="fast"), Predictor()
    assert fast.predict(data) == exact.predict(image)
    assert fast.predict(data).score != exact.predict(data).score  # other pixels: it is not the default
    start = time.process_time()
    decode_image(data, SETTINGS)
    middle = time.process_time()
    decode_image(data, SETTINGS, (300, 300))
    assert time.process_time() - middle < middle - start
