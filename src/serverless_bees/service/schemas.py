"""The JSON that requests carry: what decodes it and what ``openapi.json`` publishes are one and the same.

Imported for JSON bodies, for ``top_k`` and ``min_score``, and for ``openapi.json`` only: importing msgspec costs as
much as a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from .messages import RequestError

TopK = Annotated[int, msgspec.Meta(ge=1, le=10_000, description="How many classes the answer names at most.")]
MinScore = Annotated[float, msgspec.Meta(description="The least score of a class that is named.")]
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=8192, description="An https URL of the picture.")]
Picture = Annotated[str, msgspec.Meta(min_length=1, description="The encoded picture in base64, or a data URL.")]


class Instance(msgspec.Struct, forbid_unknown_fields=True):
    """One picture: exactly one of ``url`` and ``image``."""

    url: Url | None = None
    image: Picture | None = None


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /predict``: exactly one of ``url``, ``image`` and ``instances``."""

    url: Url | None = None
    image: Picture | None = None
    instances: Annotated[list[Instance], msgspec.Meta(min_length=1)] | None = None
    top_k: TopK | None = None
    min_score: MinScore | None = None


class InferParameters(msgspec.Struct):
    """The parameters of the Open Inference Protocol that this service knows; others are ignored, as it says."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None
    classification: Annotated[int, msgspec.Meta(ge=0)] | None = None


class InferInput(msgspec.Struct):
    """One input tensor; ``data`` is left out where it follows the JSON in binary form."""

    name: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    datatype: str
    data: list[Any] | None = None
    parameters: InferParameters | None = None


class InferOutput(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: InferParameters | None = None


class InferRequest(msgspec.Struct):
    """The body of ``POST /v2/models/{model}/infer``."""

    inputs: list[InferInput]
    id: str | None = None
    outputs: list[InferOutput] | None = None
    parameters: InferParameters | None = None


Schema = TypeVar("Schema")


def decode(body: bytes, schema: type[Schema]) -> Schema:
    """``body`` as ``schema`` has it.

    Raises:
        RequestError: names the field and what it must be.
    """
    try:
        return msgspec.json.decode(body, type=schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the JSON body is not what this route takes: {error}") from error


def from_text(fields: Mapping[str, str], schema: type[Schema]) -> Schema:
    """The fields of a query or a form as ``schema`` has them; numbers come as text there.

    Raises:
        RequestError: names the field and what it must be.
    """
    try:
        return msgspec.convert(fields, type=schema, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"a field is not what this route takes: {error}") from error
