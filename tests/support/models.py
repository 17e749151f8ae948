"""Small TFLite models, made with the schema that LiteRT's own wheel carries; no TensorFlow needed.

Each is average pooling, a fully connected layer with fixed weights, and an activation: enough to be a
classifier whose scores depend on every pixel, small enough to damage in every way.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
}


def make_model(
    *,
    height: int = 8,
    width: int = 8,
    channels: int = 3,
    classes: int = 3,
    dtype: str = "float32",
    output_dtype: str | None = None,
    input_scale: float = 1 / 255,
    input_zero_point: int | None = None,
    activation: str | None = None,
    seed: int = 1,
    metadata: bytes = b"",
) -> bytes:
    """The bytes of a model; quantised (``dtype`` uint8 or int8) inside too, as a converter would leave it."""
    output_dtype = output_dtype or dtype
    activation = activation or ("sigmoid" if classes == 1 else "softmax")
    lowest = -128 if dtype == "int8" else 0
    zero_point = lowest if input_zero_point is None else input_zero_point
    features = (height // 2) * (width // 2) * channels
    weights = (
        np.random.default_rng(seed).normal(0, 1, (classes, features)).astype(np.float32) * (6 / features) ** 0.5 * 3
    )
    builder = _Builder(metadata)
    quantised = dtype != "float32"
    pixel_quant = (input_scale, zero_point) if quantised else None
    pixels = builder.tensor("pixels", [1, height, width, channels], dtype, pixel_quant)
    pooled = builder.tensor("pooled", [1, height // 2, width // 2, channels], dtype, pixel_quant)
    logits = builder.tensor("logits", [1, classes], dtype, (0.1, lowest + 128) if quantised else None)
    if quantised:
        scale = float(np.abs(weights).max() / 127)
        stored = np.round(weights / scale) + (128 if dtype == "uint8" else 0)
        matrix = builder.tensor(
            "weights",
            list(weights.shape),
            dtype,
            (scale, 128 if dtype == "uint8" else 0),
            stored.clip(lowest, lowest + 255).astype(dtype),
        )
        bias = builder.tensor("bias", [classes], "int32", (scale * input_scale, 0), np.zeros(classes, np.int32))
    else:
        matrix = builder.tensor("weights", list(weights.shape), dtype, None, weights)
        bias = builder.tensor("bias", [classes], dtype, None, np.linspace(-0.5, 0.5, classes, dtype=np.float32))
    scores = builder.tensor("scores", [1, classes], dtype, (1 / 256, lowest) if quantised else None)
    pool = schema.Pool2DOptionsT()
    pool.padding = schema.Padding.VALID  # an odd row or column at the end is left out
    pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = 2
    builder.operator(
        schema.BuiltinOperator.AVERAGE_POOL_2D, [pixels], [pooled], schema.BuiltinOptions.Pool2DOptions, pool
    )
    dense = schema.FullyConnectedOptionsT()
    builder.operator(
        schema.BuiltinOperator.FULLY_CONNECTED, [pooled, matrix, bias], [logits],
        schema.BuiltinOptions.FullyConnectedOptions, dense, version=4 if dtype == "int8" else 1,
    )  # fmt: skip
    version = 2 if dtype == "int8" else 1
    if activation == "sigmoid":
        builder.operator(schema.BuiltinOperator.LOGISTIC, [logits], [scores], version=version)
    elif activation == "softmax":
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        builder.operator(
            schema.BuiltinOperator.SOFTMAX,
            [logits],
            [scores],
            schema.BuiltinOptions.SoftmaxOptions,
            softmax,
            version,
        )
    else:
        scores = logits
    if output_dtype != dtype:
        converted = builder.tensor("converted", [1, classes], output_dtype, None)
        builder.operator(schema.BuiltinOperator.DEQUANTIZE, [scores], [converted], version=version)
        scores = converted
    return builder.build(pixels, scores)


def write_model(path: Path, **options: Any) -> Path:
    """``make_model`` into a file; its path."""
    path.write_bytes(make_model(**options))
    return path


def rebuilt(model: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """``model`` after ``change``, which gets the schema's own ModelT and its first SubGraphT."""
    whole = schema.ModelT.InitFromPackedBuf(model, 0)
    change(whole, whole.subgraphs[0])
    builder = flatbuffers.Builder(4096)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def stored(array: np.ndarray[Any, Any]) -> Any:
    """A BufferT that holds ``array``: the weights of a tensor."""
    return _buffer(array.tobytes())


def damaged(model: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` files that a broken download, disk or attacker may make of ``model``: by turns cut off, with bits
    flipped, a number overwritten, a range zeroed, two ranges swapped; mostly where the structure is, at both ends."""
    rng = random.Random(seed)
    size = len(model)
    ends = min(size, 3000)

    def somewhere(room: int = 1) -> int:
        near = rng.choice((rng.randrange(ends), size - 1 - rng.randrange(ends), rng.randrange(size)))
        return min(near, size - room)

    numbers = (-1, 0, 1, 3, 49, 126, 256, 65536, 1 << 20, 2**31 - 1, -(2**31))
    for index in range(count):
        data, kind = bytearray(model), index % 5
        if kind == 0:
            del data[somewhere() if index % 2 else rng.randrange(size) :]
        elif kind == 1:
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[somewhere()] ^= 1 << rng.randrange(8)
        elif kind == 2:
            struct.pack_into("<i", data, somewhere(8) & ~3, rng.choice((*numbers, rng.randrange(size))))
        elif kind == 3:
            length = rng.choice((4, 16, 64, 256))
            at = somewhere(length)
            data[at : at + length] = bytes(length)
        else:
            length = rng.choice((4, 16, 64))
            a, b = somewhere(length), somewhere(length)
            data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
        yield bytes(data)


class _Builder:
    def __init__(self, metadata: bytes) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = "made by a test"
        self._model.operatorCodes = []
        self._model.buffers = [_buffer(b"")]
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        if metadata:
            entry = schema.MetadataT()
            entry.name, entry.buffer = "TFLITE_METADATA", self._data(metadata)
            self._model.metadata = [entry]

    def _data(self, data: bytes) -> int:
        self._model.buffers.append(_buffer(data))
        return len(self._model.buffers) - 1

    def tensor(
        self,
        name: str,
        shape: list[int],
        dtype: str,
        quantisation: tuple[float, int] | None,
        data: np.ndarray[Any, Any] | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, shape
        tensor.type = _TYPES.get(dtype, schema.TensorType.INT32)
        tensor.buffer = self._data(data.tobytes()) if data is not None else 0
        if quantisation:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [quantisation[0]], [quantisation[1]]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(
        self,
        code: int,
        inputs: list[int],
        outputs: list[int],
        options_type: int = 0,
        options: Any = None,
        version: int = 1,
    ) -> None:
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
        operator_code.version = version
        self._model.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        self._graph.operators.append(operator)

    def build(self, pixels: int, scores: int) -> bytes:
        self._graph.inputs, self._graph.outputs = [pixels], [scores]
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(4096)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8) if data else None
    return buffer
