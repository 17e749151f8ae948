"""Open Inference Protocol v2, so that Triton's and KServe's own clients work.

Two models stand behind one file, since one cannot declare both inputs: ``NAME`` takes and gives the raw tensors,
``NAME-image`` takes encoded pictures (BYTES) and gives one score a class.

Sources: https://github.com/kserve/open-inference-protocol (REST), and Triton's extensions
``binary_tensor_data`` and ``classification`` (https://github.com/triton-inference-server/server/tree/main/docs/protocol).
"""

from __future__ import annotations

import base64
import heapq
import math
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..settings import PREFIX
from .messages import JSON, NotFoundError, RequestError, TooLargeError, to_json

if TYPE_CHECKING:
    from ..predictor import Predictor
    from .app import Call
    from .schemas import InferInput, InferRequest

Answer = tuple[int, dict[str, str], bytes]

HEADER_LENGTH = "inference-header-content-length"
IMAGE_SUFFIX = "-image"

# The model's dtype -> the protocol's name of it, and struct's code.
_DATATYPES = {"float32": ("FP32", "f"), "uint8": ("UINT8", "B"), "int8": ("INT8", "b")}
_CODES = dict(_DATATYPES.values())
_BYTES = "BYTES"


class Port(NamedTuple):
    """One input or output as the protocol describes it; -1 stands for the size of the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def metadata(self) -> dict[str, Any]:
        """The object that metadata holds of it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def server_metadata(call: Call) -> Answer:
    """``GET /v2``."""
    extensions = ["binary_tensor_data", "classification"]
    return _json({"name": "serverless-bees", "version": __version__, "extensions": extensions})


def live(call: Call) -> Answer:
    """``GET /v2/health/live``: this process answers."""
    return _json({"live": True})


def ready(call: Call) -> Answer:
    """``GET /v2/health/ready``: the model is loaded, or can be; 503 where it cannot."""
    is_ready = call.service.is_ready()
    return 200 if is_ready else 503, {"content-type": JSON}, to_json({"ready": is_ready})


def model_ready(call: Call) -> Answer:
    """``GET /v2/models/{model}[/versions/{version}]/ready``."""
    if not call.service.is_ready():
        return 503, {"content-type": JSON}, to_json({"name": call.parameters["model"], "ready": False})
    predictor, is_image = _model(call)
    return _json({"name": _name(predictor, is_image), "ready": True})


def model_metadata(call: Call) -> Answer:
    """``GET /v2/models/{model}[/versions/{version}]``."""
    predictor, is_image = _model(call)
    pixels, scores = _ports(predictor, is_image)
    return _json(
        {
            "name": _name(predictor, is_image),
            "versions": [predictor.info.version],
            "platform": "tensorflow_lite",
            "inputs": [pixels.metadata()],
            "outputs": [scores.metadata()],
            "parameters": {
                "labels": list(predictor.spec.labels),
                "spec": "assumed" if predictor.spec.assumed else "stated",
            },
        }
    )


def infer(call: Call) -> Answer:
    """``POST /v2/models/{model}[/versions/{version}]/infer``, JSON or with binary tensors behind the JSON."""
    from .schemas import InferRequest, decode

    predictor, is_image = _model(call)
    head, tail = _split(call)
    body = decode(head, InferRequest)
    port, scores = _ports(predictor, is_image)
    tensor, data = _one_input(body, port, tail)
    limit = call.service.settings.max_instances
    if not tensor.shape or not tensor.shape[0]:
        raise RequestError(f"the input {port.name!r} has shape {list(port.shape)}, not {tensor.shape}")
    if tensor.shape[0] > limit:
        raise TooLargeError(f"the batch has {tensor.shape[0]} elements, the limit is {limit} ({PREFIX}MAX_INSTANCES)")
    if is_image:
        rows = [_image_scores(predictor, picture, call) for picture in _pictures(tensor, data)]
    else:
        rows = [_raw_scores(predictor, row, call) for row in _rows(tensor, data, port)]
    outputs, binary = _outputs(body, scores, rows, predictor.spec.labels if is_image or len(rows[0]) > 1 else ())
    answer = {
        "model_name": _name(predictor, is_image),
        "model_version": predictor.info.version,
        **({"id": body.id} if body.id is not None else {}),
        "outputs": outputs,
    }
    call.facts["instances"] = len(rows)
    if not binary:
        return _json(answer)
    header = to_json(answer)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return 200, headers, header + binary


def _json(value: object) -> Answer:
    return 200, {"content-type": JSON}, to_json(value)


def _model(call: Call) -> tuple[Predictor, bool]:
    """The predictor behind a model's name and version, and whether it is meant as the one for pictures."""
    predictor = call.service.predictor
    name, version = call.parameters["model"], call.parameters.get("version", predictor.info.version)
    names = [predictor.info.name, predictor.info.name + IMAGE_SUFFIX]
    if name not in names:
        raise NotFoundError(f"there is no model {name[:200]!r}; there are {' and '.join(names)}")
    if version != predictor.info.version:
        raise NotFoundError(f"model {name!r} has no version {version[:200]!r}; there is {predictor.info.version}")
    return predictor, name == names[1]


def _name(predictor: Predictor, is_image: bool) -> str:
    return predictor.info.name + (IMAGE_SUFFIX if is_image else "")


def _ports(predictor: Predictor, is_image: bool) -> tuple[Port, Port]:
    pixels, scores = predictor.model_file.input, predictor.model_file.output
    if is_image:
        return Port("image", _BYTES, (-1,)), Port("scores", "FP32", (-1, len(predictor.spec.labels)))
    return (
        Port(pixels.name, _DATATYPES[pixels.dtype][0], (-1, *pixels.shape[1:])),
        Port(scores.name, _DATATYPES[scores.dtype][0], (-1, scores.size)),
    )


def _split(call: Call) -> tuple[bytes, bytes]:
    """The JSON and the binary tensors behind it."""
    body, given = call.request.body, call.request.headers.get(HEADER_LENGTH)
    if given is None:
        return body, b""
    if not given.isascii() or not given.isdigit() or len(given) > 12 or int(given) > len(body):
        raise RequestError(f"Inference-Header-Content-Length is no number from 0 to {len(body)}, the size of the body")
    return body[: int(given)], body[int(given) :]


def _one_input(body: InferRequest, port: Port, tail: bytes) -> tuple[InferInput, bytes | None]:
    """The one input there is, and its bytes where they came in binary form."""
    if len(body.inputs) != 1 or body.inputs[0].name != port.name:
        given = ", ".join(repr(tensor.name) for tensor in body.inputs)[:200]
        raise RequestError(f"this model has the one input {port.name!r}; given are: {given or 'none'}")
    tensor = body.inputs[0]
    if tensor.datatype != port.datatype:
        raise RequestError(f"the input {port.name!r} is {port.datatype}, not {tensor.datatype[:40]!r}")
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if size is None:
        if tail:
            raise RequestError(f"{len(tail)} bytes follow the JSON, but the input has no binary_data_size")
        if tensor.data is None:
            raise RequestError(f"the input {port.name!r} has neither data nor binary_data_size")
        return tensor, None
    if size != len(tail) or tensor.data is not None:
        raise RequestError(f"the input's binary_data_size is {size}, but {len(tail)} bytes follow the JSON")
    return tensor, tail


def _rows(tensor: InferInput, data: bytes | None, port: Port) -> list[bytes]:
    """The rows of a raw input tensor, each in the bytes of the model's input."""
    if tuple(tensor.shape[1:]) != port.shape[1:]:
        raise RequestError(f"the input {port.name!r} has shape {list(port.shape)}, not {tensor.shape}")
    code = _CODES[port.datatype]
    count = math.prod(tensor.shape)
    if data is None:
        values = list(_flat(tensor.data or []))
        if len(values) != count:
            raise RequestError(f"shape {tensor.shape} has {count} elements, data has {len(values)}")
        try:
            data = struct.pack(f"{count}{code}", *values)
        except (struct.error, OverflowError) as error:
            raise RequestError(f"data holds what is no {port.datatype}: {error}") from error
    size = struct.calcsize(code) * count
    if len(data) != size:
        raise RequestError(f"shape {tensor.shape} of {port.datatype} takes {size} bytes, there are {len(data)}")
    step = size // tensor.shape[0]
    return [data[at : at + step] for at in range(0, size, step)]


def _flat(values: list[Any]) -> Iterator[Any]:
    """The elements of nested lists, without recursion; numbers only."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                stack.append(iter(value))
                break
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RequestError(f"data holds {value!r:.40}, which is no number")
            yield value
        else:
            stack.pop()


def _pictures(tensor: InferInput, data: bytes | None) -> list[bytes]:
    """The encoded pictures of a BYTES tensor: base64 in JSON, each behind its length in 4 bytes in binary form."""
    if len(tensor.shape) > 2 or tensor.shape[1:] not in ([], [1]):
        raise RequestError(f"the input 'image' has shape [-1] (or [-1, 1]), not {tensor.shape}")
    if data is None:
        values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in tensor.data or []]
        try:
            pictures = [base64.b64decode(value, validate=True) for value in values]
        except (ValueError, TypeError) as error:
            raise RequestError(f"data of BYTES must be strings in base64: {error}") from error
    else:
        pictures, at = [], 0
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (len(data),)
            if at + 4 + length > len(data):
                raise RequestError(f"element {len(pictures)} of BYTES runs over the end of the binary data")
            pictures.append(data[at + 4 : at + 4 + length])
            at += 4 + length
    if len(pictures) != tensor.shape[0]:
        raise RequestError(f"shape {tensor.shape} has {tensor.shape[0]} elements, data has {len(pictures)}")
    return pictures


def _raw_scores(predictor: Predictor, row: bytes, call: Call) -> list[float]:
    output = predictor.model_file.output
    raw = predictor.invoke(row, timings=call.timings)
    return list(struct.unpack(f"{output.size}{_DATATYPES[output.dtype][1]}", raw))


def _image_scores(predictor: Predictor, picture: bytes, call: Call) -> list[float]:
    return predictor.scores(picture, timings=call.timings)


def _outputs(
    body: InferRequest, port: Port, rows: list[list[float]], labels: tuple[str, ...]
) -> tuple[list[dict[str, Any]], bytes]:
    """The outputs asked for (all where none is named), and what follows the JSON in binary form."""
    asked = [(output.name, output.parameters) for output in body.outputs or []] or [(port.name, None)]
    if len(asked) > 1:
        raise RequestError(f"this model has the one output {port.name!r}; asked for are {len(asked)}")
    binary_by_default = bool(body.parameters and body.parameters.binary_data_output)
    outputs, binary = [], b""
    for name, parameters in asked:
        if name != port.name:
            raise RequestError(f"this model has the one output {port.name!r}, not {name[:200]!r}")
        best = parameters.classification if parameters and parameters.classification else 0
        as_binary = parameters.binary_data if parameters and parameters.binary_data is not None else binary_by_default
        if best:
            classes = [_best(row, labels, best) for row in rows]
            shape, datatype = [len(rows), len(classes[0])], _BYTES
            flat: list[Any] = [text for row in classes for text in row]
        else:
            shape, datatype = [len(rows), len(rows[0])], port.datatype
            flat = [score for row in rows for score in row]
            if not as_binary and not all(map(math.isfinite, flat)):
                raise RequestError(
                    "the scores are not all numbers, since the input's are not; JSON has no word for that"
                )
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if as_binary:
            data = _packed(flat, datatype)
            output["parameters"] = {"binary_data_size": len(data)}
            binary += data
        else:
            output["data"] = flat
        outputs.append(output)
    return outputs, binary


def _best(row: list[float], labels: tuple[str, ...], count: int) -> list[str]:
    """Triton's form of a classification: score, index and label, joined by colons."""
    order = heapq.nlargest(count, range(len(row)), key=row.__getitem__)
    return [f"{row[i]:f}:{i}" + (f":{labels[i]}" if labels else "") for i in order]


def _packed(flat: list[Any], datatype: str) -> bytes:
    if datatype == _BYTES:
        texts = [text.encode() for text in flat]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"{len(flat)}{_CODES[datatype]}", *flat)
