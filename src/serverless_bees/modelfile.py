"""A TFLite file: mapped into memory, checked as a flatbuffer, its outside read.

Only what a spec and an inspection need is read: the first subgraph's inputs and outputs and the metadata
entries. Everything is bounds-checked, so that a damaged file is an error here and never a crash below.

Sources: the flatbuffers encoding (https://flatbuffers.dev/internals/), field numbers from TensorFlow's
``schema.fbs`` and ``metadata_schema.fbs``.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .errors import ModelFileError, UnsupportedModelError

FILE_IDENTIFIER = b"TFL3"
METADATA_NAME = b"TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MAX_TENSOR_BYTES = 256 * 1024 * 1024
"""No classifier's picture or row of scores is larger; a damaged shape is refused before memory is asked for."""

_ELEMENT_TYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16",
)  # fmt: skip
ITEM_SIZES = {"float32": 4, "float16": 2, "int32": 4, "uint8": 1, "int64": 8, "int16": 2, "int8": 1}
_STORED = {"uint8": range(256), "int8": range(-128, 128)}  # a zero point is one of the values that are stored
_MAX_RANK = 8  # LiteRT's
_MAX_LABELS_BYTES = 4 * 1024 * 1024
_NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions.NormalizationOptions
_LABEL_FILE_TYPES = (2, 3)  # AssociatedFileType.TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


class Tensor(NamedTuple):
    """One input or output: NHWC ``shape``, NumPy's name of the ``dtype``, and per-tensor quantisation.

    ``real = scale * (stored - zero_point)`` where ``scale`` is not 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * ITEM_SIZES[self.dtype]

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        quantised = f", scale {self.scale:g}, zero point {self.zero_point}" if self.scale else ""
        return f"{self.dtype} {shape}{quantised}"


class Metadata(NamedTuple):
    """What TFLite Metadata says of the model; empty where it says nothing."""

    name: str = ""
    version: str = ""
    description: str = ""
    labels: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class ModelFile:
    """A mapped model: ``path``, ``mapping`` (private, copy on write), ``stat`` of the file.

    Raises:
        ModelFileError: missing, unreadable, empty, damaged, or not a TFLite flatbuffer.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            with open(self.path, "rb") as file:
                self.stat = os.fstat(file.fileno())
                # A private writable mapping: ctypes takes the address of nothing less, and nobody writes to it.
                self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise ModelFileError(f"{self.path}: cannot open the model: {error.strerror or error}") from error
        except ValueError as error:  # mmap's, or a path that holds a null byte
            raise ModelFileError(f"{self.path!r}: cannot open the model: {error}") from error
        if self.mapping[4:8] != FILE_IDENTIFIER:
            raise ModelFileError(
                f"{self.path}: not a TFLite model (no {FILE_IDENTIFIER.decode()} identifier at byte 4)"
            )
        with self.damage():
            self.root = FlatTable.root(self.mapping)
            if not self.root.tables(2):
                raise IndexError("it has no subgraph")

    @functools.cached_property
    def input(self) -> Tensor:
        """The one input of the first subgraph.

        Raises:
            ModelFileError: the file is damaged there.
            UnsupportedModelError: not exactly one, of an unknown type, or of no fixed shape.
        """
        return self._end("input", 1)

    @functools.cached_property
    def output(self) -> Tensor:
        """The one output of the first subgraph; raises as ``input`` does."""
        return self._end("output", 2)

    @contextlib.contextmanager
    def damage(self, part: str = "model") -> Iterator[None]:
        """Turns what FlatTable raises into a ModelFileError that names the file and the ``part``."""
        try:
            yield
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{self.path}: the {part} is damaged: {error}") from error

    def _end(self, side: str, field: int) -> Tensor:
        with self.damage():
            graph = self.root.tables(2)[0]
            indices = graph.numbers(field, "i")
            if len(indices) != 1:
                raise UnsupportedModelError(
                    f"{self.path}: an image classifier has one {side}, this model has {len(indices)}"
                )
            tensors = graph.tables(0)
            if not 0 <= indices[0] < len(tensors):
                raise IndexError(f"its {side} is tensor {indices[0]} of {len(tensors)}")
            return self._tensor(side, tensors[indices[0]])

    def _tensor(self, side: str, table: FlatTable) -> Tensor:
        name = table.string(3)
        dtype = element_type(table.number(1, "b"))
        if dtype not in ITEM_SIZES:
            raise UnsupportedModelError(
                f"{self.path}: the {side} {name!r} is {dtype}; supported are {', '.join(ITEM_SIZES)}"
            )
        shape = tuple(table.numbers(0, "i"))
        if -1 in table.numbers(7, "i")[1:]:
            signature = "x".join(map(str, table.numbers(7, "i")))
            raise UnsupportedModelError(
                f"{self.path}: the {side} {name!r} has no fixed shape ({signature}); convert the model with one"
            )
        if len(shape) > _MAX_RANK or any(n < 1 for n in shape):
            raise IndexError(f"the {side} {name!r} has {len(shape)} dimensions, {shape[:_MAX_RANK]}")
        quantisation = table.table(4)
        scales = quantisation.numbers(2, "f") if quantisation else ()
        zero_points = quantisation.numbers(3, "q") if quantisation else ()
        if len(scales) > 1:
            raise UnsupportedModelError(
                f"{self.path}: the {side} {name!r} is quantised per channel ({len(scales)} scales)"
            )
        scale, zero_point = scales[0] if scales else 0.0, int(zero_points[0]) if zero_points else 0
        tensor = Tensor(name, shape, dtype, scale, zero_point)
        if not 0 <= scale < math.inf or (scale and zero_point not in _STORED.get(dtype, (zero_point,))):
            raise IndexError(f"the {side} {name!r} is {dtype} of scale {scale}, zero point {zero_point}")
        if tensor.nbytes > MAX_TENSOR_BYTES:
            raise UnsupportedModelError(
                f"{self.path}: the {side} {tensor} takes {tensor.nbytes} bytes, the limit is {MAX_TENSOR_BYTES}"
            )
        return tensor

    def metadata(self) -> Metadata | None:
        """The TFLite Metadata inside the file, or None where there is none.

        Raises:
            ModelFileError: there is some, but it is damaged.
        """
        with self.damage("model's TFLite Metadata"):
            for entry in self.root.tables(6):
                if entry.data(0) == METADATA_NAME:
                    return self._metadata(self.root.tables(4)[entry.number(1, "I")].data(0))
        return None

    def _metadata(self, data: bytes) -> Metadata:
        if data[4:8] != METADATA_IDENTIFIER:
            raise IndexError(f"no {METADATA_IDENTIFIER.decode()} identifier")
        root = FlatTable.root(data)
        graphs = root.tables(3)
        inputs = graphs[0].tables(2) if graphs else []
        outputs = graphs[0].tables(3) if graphs else []
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        for unit in inputs[0].tables(4) if inputs else []:
            options = unit.table(1)
            if unit.number(0, "B") == _NORMALIZATION_OPTIONS and options:
                mean, std = options.numbers(0, "f"), options.numbers(1, "f")
        files = outputs[0].tables(6) if outputs else []
        # "If multiple files of the same type are present, the first one is used by default", says the schema:
        # the others are translations.
        names = [file.string(0) for file in files if file.number(2, "b") in _LABEL_FILE_TYPES]
        labels = self._packed_labels(names[0]) if names else ()
        return Metadata(root.string(0), root.string(2), root.string(1), labels, mean, std)

    def _packed_labels(self, name: str) -> tuple[str, ...]:
        """The lines of a file in the zip archive that TFLite Metadata appends to the model."""
        import zipfile

        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                text = file.read(_MAX_LABELS_BYTES + 1)
        # Damage comes out of zipfile as whatever struct, zlib, lzma or seek make of it.
        except Exception as error:
            raise ModelFileError(
                f"{self.path}: the label file {name!r} of its TFLite Metadata cannot be read: {error}"
            ) from error
        if len(text) > _MAX_LABELS_BYTES:
            raise ModelFileError(f"{self.path}: the label file {name!r} is larger than {_MAX_LABELS_BYTES} bytes")
        return tuple(line.strip() for line in text.decode("utf-8-sig").splitlines() if line.strip())


def element_type(code: int) -> str:
    """The name of an element type (``TensorType`` in the schema)."""
    return _ELEMENT_TYPES[code] if 0 <= code < len(_ELEMENT_TYPES) else f"element type {code}"


class FlatTable:
    """One table of a flatbuffer; a field that is absent reads as 0, empty or None, as the format has it.

    Every member raises IndexError or struct.error where the file ends before what it should hold.
    """

    def __init__(self, data: bytes | mmap.mmap, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - self._unpack("i", position)
        self.field_count = self._unpack("H", self._vtable) // 2 - 2

    @classmethod
    def root(cls, data: bytes | mmap.mmap) -> FlatTable:
        """The root of a flatbuffer."""
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _unpack(self, code: str, position: int) -> int:
        if position < 0:  # struct would count from the end
            raise IndexError(f"an offset points to {position}")
        value: int = struct.unpack_from("<" + code, self._data, position)[0]
        return value

    def at(self, field: int) -> int:
        """Where a field stands in the file; 0 where it is absent."""
        offset = self._unpack("H", self._vtable + 4 + 2 * field) if field < self.field_count else 0
        return self._position + offset if offset else 0

    def _target(self, field: int) -> int:
        at = self.at(field)
        return at + self._unpack("I", at) if at else 0

    def check(self) -> None:
        """Raises where the table does not lie inside the file, or one of its fields does not lie inside it."""
        size = self._unpack("H", self._vtable + 2)
        offsets = [self._unpack("H", self._vtable + 4 + 2 * field) for field in range(self.field_count)]
        if size < 4 or self._position + size > len(self._data) or any(offset >= size for offset in offsets):
            raise IndexError(f"a table of {size} bytes at byte {self._position} does not hold its fields")

    def number(self, field: int, code: str) -> int:
        """A number of struct's ``code``."""
        at = self.at(field)
        return self._unpack(code, at) if at else 0

    def table(self, field: int) -> FlatTable | None:
        """The table that a field points to."""
        target = self._target(field)
        return FlatTable(self._data, target) if target else None

    def tables(self, field: int) -> list[FlatTable]:
        """A vector of tables."""
        start, length = self.vector(field, 4)
        return [FlatTable(self._data, at + self._unpack("I", at)) for at in range(start, start + 4 * length, 4)]

    def numbers(self, field: int, code: str) -> tuple[int, ...]:
        """A vector of numbers of struct's ``code``."""
        start, length = self.vector(field, struct.calcsize(code))
        return struct.unpack_from(f"<{length}{code}", self._data, start)

    def data(self, field: int) -> bytes:
        """A vector of bytes."""
        start, length = self.vector(field, 1)
        return self._data[start : start + length]

    def string(self, field: int) -> str:
        """A string."""
        return self.data(field).decode("utf-8")

    def vector(self, field: int, item_size: int) -> tuple[int, int]:
        """Where a vector's items start, and how many there are."""
        target = self._target(field)
        if not target:
            return 0, 0
        length = self._unpack("I", target)
        if target + 4 + length * item_size > len(self._data):
            raise IndexError(f"a vector of {length} items runs over the end of the file")
        return target + 4, length
