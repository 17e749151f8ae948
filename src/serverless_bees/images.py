"""Pictures: from encoded bytes to what a model's input holds, exactly as the reference path does it.

The reference path is Pillow and NumPy as the usual deployment has it: convert to RGB, resize with NEAREST,
float32, divide by 255. The functions here give the same bits with less work, and without NumPy except where an
array is what is asked for.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import struct
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from PIL import Image

from .errors import ImageTooLargeError, InvalidImageError, PayloadTooLargeError, UnsupportedMediaTypeError
from .settings import PREFIX, Settings, current
from .spec import Spec, pixel_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .fetch import Fetcher
    from .modelfile import Tensor

# Format -> where its magic number stands, what it is, Pillow's module and class for it. No other decoder sees a byte.
FORMATS = {
    "JPEG": (0, (b"\xff\xd8\xff",), "PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": (0, (b"\x89PNG\r\n\x1a\n",), "PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": (8, (b"WEBP",), "PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": (0, (b"GIF87a", b"GIF89a"), "PIL.GifImagePlugin", "GifImageFile"),
    "BMP": (0, (b"BM",), "PIL.BmpImagePlugin", "BmpImageFile"),
}
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten; each costs a pass over all pixels, so thousands are a way to burn time."""
# A scan's header, by its number of components (ITU-T T.81, B.2.3). The marker alone is no sign of one: phones
# append a film to a photograph, and a film of 6 MB holds a hundred FF DA.
_SCAN_HEADERS = tuple(b"\xff\xda\x00" + bytes((6 + 2 * components, components)) for components in (1, 2, 3, 4))

# In these modes NEAREST before or after the conversion gives the same pixels, and before is less work:
# each pixel is converted on its own. The high-depth modes (I;16, I, F) are not on the list.
_CONVERTED_LAST = {"1", "L", "P", "PA", "LA", "RGBA", "RGBX", "CMYK", "YCbCr"}
_LOSSY_MODES = ("I", "F")
_ORIENTATION = 0x0112
# EXIF's orientation -> what sets the picture upright; 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Warning,  # of Pillow's, where warnings are errors
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def download_image(url: str) -> Image.Image:
    """The picture at ``url``, fetched through the guard and decoded.

    Raises:
        UrlNotAllowedError, FetchFailedError, FetchTimeoutError: see ``serverless_bees.fetch``.
        ImageError: it is no picture in a format on the list, broken, or over a limit.
    """
    return open_image(fetch_image(url, current()), current())


def prepare_image(img: Image.Image, target_size: tuple[int, int]) -> Image.Image:
    """``img`` as RGB, resized to ``target_size`` (width, height) with ``Image.NEAREST``."""
    return _resized(img, target_size, "RGB", Image.Resampling.NEAREST)


def preprocess_image(img: Image.Image) -> NDArray[np.float32]:
    """The pixels of ``img`` as float32 of shape (height, width, 3), divided by 255 into [0, 1]."""
    import numpy as np

    pixels = np.array(img, dtype=np.float32)
    pixels /= 255
    return pixels


def decode_image(data: bytes, settings: Settings, draft_size: tuple[int, int] | None = None) -> Image.Image:
    """The picture in ``data``, decoded within the limits of ``settings``.

    ``draft_size`` lets a JPEG's decoder scale by 2, 4 or 8 on its way, to no less than that width and height.

    Raises:
        UnsupportedMediaTypeError: not in a format on the list.
        PayloadTooLargeError, ImageTooLargeError: over ``max_image_bytes`` or ``max_image_pixels``.
        InvalidImageError: truncated, broken, or of a mode whose conversion would silently lose data.
    """
    image = open_image(data, settings, draft_size)
    refuse_lossy(image)
    return image


def open_image(data: bytes, settings: Settings, draft_size: tuple[int, int] | None = None) -> Image.Image:
    """``decode_image`` for any mode, as the reference path opens a picture."""
    if len(data) > settings.max_image_bytes:
        raise PayloadTooLargeError(
            f"the picture has {len(data)} bytes, the limit is {settings.max_image_bytes} ({PREFIX}MAX_IMAGE_BYTES)"
        )
    name = _format(data)
    scans = sum(map(data.count, _SCAN_HEADERS)) if name == "JPEG" else 0
    if scans > MAX_JPEG_SCANS:
        raise InvalidImageError(f"the JPEG has {scans} scans, the limit is {MAX_JPEG_SCANS}")
    _, _, module, class_name = FORMATS[name]
    try:
        # Not Image.open, which imports every usual format's module first, puts an address into its message, and
        # takes what a JPEG says of further pictures behind it at its word.
        image: Image.Image = getattr(import_module(module), class_name)(io.BytesIO(data))
    except _BOMBS as error:
        raise ImageTooLargeError(f"the {name} picture is a decompression bomb: {error}") from error
    except _DECODING_ERRORS as error:
        raise InvalidImageError(f"the {name} picture is broken: {error}") from error
    pixels = image.width * image.height
    if pixels > settings.max_image_pixels:
        raise ImageTooLargeError(
            f"the picture has {image.width} x {image.height} = {pixels} pixels, "
            f"the limit is {settings.max_image_pixels} ({PREFIX}MAX_IMAGE_PIXELS)"
        )
    try:
        if draft_size:
            image.draft(None, draft_size)
        image.load()
    except _BOMBS as error:
        raise ImageTooLargeError(f"the {name} picture is a decompression bomb: {error}") from error
    except _DECODING_ERRORS as error:
        raise InvalidImageError(f"the {name} picture is truncated or broken: {error}") from error
    return image


def refuse_lossy(image: Image.Image) -> None:
    """Raises InvalidImageError where the conversion to 8 bits a channel would silently lose data."""
    if image.mode.startswith(_LOSSY_MODES):
        raise InvalidImageError(
            f"the picture's pixels are 16 or 32 bits deep (mode {image.mode}); convert it to 8 bits a channel first"
        )


def read_file(path: str | os.PathLike[str], settings: Settings) -> bytes:
    """The bytes of the file at ``path``, at most ``max_image_bytes`` and one.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(settings.max_image_bytes + 1)
    except ValueError as error:  # a null byte in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from error


def fetch_image(url: str, settings: Settings) -> bytes:
    """The bytes at ``url``, fetched through the guard that ``settings`` describe."""
    return _fetcher(settings).fetch(url)


@functools.lru_cache(maxsize=8)
def _fetcher(settings: Settings) -> Fetcher:
    # One for all fetches of a process: reading the system's certificates costs as much as a prediction.
    from .fetch import Fetcher, FetchPolicy

    return Fetcher(
        FetchPolicy(
            enabled=settings.fetch_enabled,
            timeout=settings.fetch_timeout,
            max_bytes=settings.max_image_bytes,
            allow_http=settings.fetch_allow_http,
            allowed_hosts=settings.fetch_allowed_hosts,
            allowed_ports=settings.fetch_allowed_ports,
        )
    )


class PixelEncoder:
    """Turns a picture into the bytes of a model's input, as its spec and its tensor say; without NumPy."""

    def __init__(self, spec: Spec, tensor: Tensor) -> None:
        _, height, width, channels = tensor.shape
        self.size = width, height
        self._mode = "RGB" if channels == 3 else "L"
        self._raw_mode = "BGR" if channels == 3 and spec.channel_order == "bgr" else self._mode
        self._resample = Image.Resampling[spec.resample.upper()]
        self._exif_transpose = spec.exif_transpose
        tables = [pixel_table(spec, tensor, channel) for channel in range(channels)]
        # One table serves where all channels are scaled alike, which is the usual case and the quick one.
        self._tables = tables if len(set(tables)) > 1 else tables[:1]
        self._translate = _translate_float32 if tensor.dtype == "float32" else bytes.translate

    def encode(self, image: Image.Image) -> bytes:
        """The input's bytes for a picture of any size and mode.

        Raises:
            InvalidImageError: it has no pixels, or its mode no way to RGB; or its file is read only now, and broken.
        """
        if 0 in image.size:
            raise InvalidImageError(f"the picture has no pixels ({image.width} x {image.height})")
        try:
            if self._exif_transpose:
                image = _upright(image)
            prepared = _resized(image, self.size, self._mode, self._resample)
        except _DECODING_ERRORS as error:
            raise InvalidImageError(
                f"the picture ({image.mode}, {image.width} x {image.height}) cannot be made {self._mode}, "
                f"{self.size[0]} x {self.size[1]}: {error}"
            ) from error
        pixels = prepared.tobytes("raw", self._raw_mode)
        if len(self._tables) == 1:
            return self._translate(pixels, self._tables[0])
        planes = [self._translate(pixels[channel::3], table) for channel, table in enumerate(self._tables)]
        return _interleaved(planes, len(planes[0]) // (len(pixels) // 3))


def _resized(image: Image.Image, size: tuple[int, int], mode: str, resample: Image.Resampling) -> Image.Image:
    if image.mode == mode:
        return image.resize(size, resample)
    if resample == Image.Resampling.NEAREST and image.mode in _CONVERTED_LAST:
        return _converted(image.resize(size, resample), mode)
    return _converted(image.copy() if "transparency" in image.info else image, mode).resize(size, resample)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    image.info.pop("transparency", None)  # it has no part in the pixels, and a palette's makes Pillow warn
    return image.convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    """``image`` as ``ImageOps.exif_transpose`` turns it, and as it is where its EXIF data is broken."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _DECODING_ERRORS:
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _translate_float32(pixels: bytes, table: bytes) -> bytes:
    """``pixels`` through a table of 256 float32 numbers.

    To Pillow that is a palette of 256 RGBA colours: its loop in C is three times quicker than four passes of
    ``bytes.translate`` and an interleave.
    """
    image = Image.frombytes("P", (len(pixels), 1), pixels)
    image.putpalette(table, "RGBA")
    return image.convert("RGBA").tobytes()


def _interleaved(planes: list[bytes], item_size: int) -> bytes:
    whole = bytearray(len(planes) * len(planes[0]))
    for index, plane in enumerate(planes):
        if item_size == 1:
            whole[index :: len(planes)] = plane
        else:
            memoryview(whole).cast("I")[index :: len(planes)] = memoryview(plane).cast("I")
    return bytes(whole)


def _format(data: bytes) -> str:
    for name, (at, magics, *_) in FORMATS.items():
        if data[at:].startswith(magics) if at == 0 else data[:4] == b"RIFF" and data[at : at + 4] in magics:
            return name
    if not data:
        raise InvalidImageError("the picture is empty (0 bytes)")
    raise UnsupportedMediaTypeError(f"not a picture in one of the formats {', '.join(FORMATS)}")


def from_array(array: Any) -> Image.Image:
    """A PIL image of an array of shape (height, width, 3) or (height, width) and dtype uint8.

    Raises:
        InvalidImageError: another shape or dtype; both are named.
    """
    shape, dtype = tuple(array.shape), str(array.dtype)
    if dtype != "uint8" or 0 in shape or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        raise InvalidImageError(f"an array must be uint8 of shape (height, width, 3), not {dtype} of shape {shape}")
    return Image.fromarray(array[:, :, 0] if shape[2:] == (1,) else array)
