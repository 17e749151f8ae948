"""``/openapi.json``: OpenAPI 3.1 of every route, from the schemas that decode the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .. import __version__
from ..images import FORMATS
from .messages import JSON, PROBLEM_JSON, PROBLEMS, to_json
from .oip import HEADER_LENGTH
from .schemas import InferRequest, PredictRequest

if TYPE_CHECKING:
    from .app import Call

_REF = "#/components/schemas/"
_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}


def document(call: Call) -> tuple[int, dict[str, str], bytes]:
    """``GET /openapi.json``."""
    return 200, {"content-type": JSON}, to_json(openapi())


def openapi() -> dict[str, Any]:
    """The OpenAPI document as an object."""
    _, schemas = msgspec.json.schema_components([PredictRequest, InferRequest], ref_template=_REF + "{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "serverless-bees",
            "version": __version__,
            "summary": "Classifies pictures with a TensorFlow Lite model.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": {"get": _operation("index", "What is served here.", {200: "Index"}, 503)},
            "/openapi.json": {"get": _operation("openapi", "This document.", {200: {"type": "object"}})},
            "/predict": {
                "get": {
                    **_operation("predict_url", "Classifies the picture at a URL.", _PREDICTED, *_PICTURE_FAULTS),
                    "parameters": [
                        _query("url", {**_TEXT, "format": "uri"}, "An https URL of the picture.", required=True),
                        *_OPTIONS,
                    ],
                },
                "post": {
                    **_operation(
                        "predict",
                        "Classifies a picture, the one at a URL, or several.",
                        {200: {"oneOf": [{"$ref": _REF + "Prediction"}, {"$ref": _REF + "Predictions"}]}},
                        411, 415, *_PICTURE_FAULTS,
                    ),
                    "parameters": _OPTIONS,
                    "requestBody": {"required": True, "content": _PREDICT_BODIES},
                },
            },
            "/v2": {"get": _operation("server_metadata", "The server.", {200: "ServerMetadata"})},
            "/v2/health/live": {"get": _operation("live", "Whether the process answers.", {200: "Live"})},
            "/v2/health/ready": {"get": _operation("ready", "Whether it has its model.", {200: "Ready", 503: "Ready"})},
            **_model_paths("/v2/models/{model}", ""),
            **_model_paths("/v2/models/{model}/versions/{version}", "_version"),
        },
        "components": {"schemas": {**schemas, **_ANSWERS}},
    }  # fmt: skip


def _operation(
    name: str, summary: str, answers: dict[int, str | dict[str, Any]], *faults: int, protocol_errors: bool = False
) -> dict[str, Any]:
    """One operation: what it answers by status, and the statuses of the problems that it may answer."""
    responses: dict[str, Any] = {}
    for status, schema in answers.items():
        content = {"schema": {"$ref": _REF + schema} if isinstance(schema, str) else schema}
        responses[str(status)] = {
            "description": "The answer." if status == 200 else "Not now.",
            "content": {JSON: content},
        }
    for status in faults:
        kinds = [kind for kind, (of, _) in PROBLEMS.items() if of == status]
        media, schema_name = (JSON, "InferError") if protocol_errors else (PROBLEM_JSON, "Problem")
        responses.setdefault(
            str(status),
            {"description": ", ".join(kinds) + ".", "content": {media: {"schema": {"$ref": _REF + schema_name}}}},
        )
    return {"operationId": name, "summary": summary, "responses": responses}


def _model_paths(path: str, suffix: str) -> dict[str, Any]:
    names = ["model", "version"] if suffix else ["model"]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]

    def operation(name: str, summary: str, answers: dict[int, str | dict[str, Any]], *faults: int) -> dict[str, Any]:
        return _operation(name + suffix, summary, answers, *faults, protocol_errors=True)

    infer = operation(
        "infer",
        "Runs the model on tensors or on encoded pictures.",
        {200: "InferResponse"},
        400,
        404,
        413,
        415,
        422,
        503,
    )
    binary = {"description": "JSON, then binary tensors.", "schema": {"type": "string", "format": "binary"}}
    infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": binary["schema"]}
    return {
        path: {
            "parameters": parameters,
            "get": operation("model_metadata", "The model's tensors.", {200: "ModelMetadata"}, 404, 503),
        },
        f"{path}/ready": {
            "parameters": parameters,
            "get": operation(
                "model_ready", "Whether the model is loaded.", {200: "ModelReady", 503: "ModelReady"}, 404
            ),
        },
        f"{path}/infer": {
            "parameters": parameters,
            "post": {
                **infer,
                "parameters": [
                    {
                        "name": HEADER_LENGTH,
                        "in": "header",
                        "description": "Bytes of JSON before the binary tensors.",
                        "schema": {"type": "integer", "minimum": 0},
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        JSON: {"schema": {"$ref": _REF + "InferRequest"}},
                        "application/octet-stream": {"schema": binary["schema"]},
                    },
                },
            },
        },
    }


def _query(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _object(*, required: tuple[str, ...] | None = None, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties if required is None else required)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PREDICTED: dict[int, str | dict[str, Any]] = {200: "Prediction"}
_PICTURE_FAULTS = (400, 413, 422, 424, 503)
_TOP_K = {"type": "integer", "minimum": 1, "maximum": 10_000}
_OPTIONS = [
    _query("top_k", _TOP_K, "How many classes the answer names at most (5)."),
    _query("min_score", _NUMBER, "The least score of a class that is named."),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PREDICT_BODIES = {
    **{f"image/{name.lower()}": _BINARY for name in FORMATS},
    "application/octet-stream": _BINARY,
    JSON: {"schema": {"$ref": _REF + "PredictRequest"}},
    "multipart/form-data": {
        "schema": _object(
            required=(),
            image={"type": "string", "format": "binary"},
            url={**_TEXT, "format": "uri"},
            top_k=_TOP_K,
            min_score=_NUMBER,
        )
    },
}
_MODEL = {"$ref": _REF + "Model"}
_CLASSES = _list({"$ref": _REF + "ClassScore"})
_TENSORS = _list(_object(name=_TEXT, datatype=_TEXT, shape=_list({"type": "integer"})))
_ANSWERS = {
    "Index": _object(name=_TEXT, version=_TEXT, model=_MODEL, links={"type": "object"}),
    "Model": _object(name=_TEXT, version=_TEXT),
    "ClassScore": _object(label=_TEXT, score=_NUMBER),
    "Prediction": _object(label=_TEXT, score=_NUMBER, classes=_CLASSES, model=_MODEL),
    "Predictions": _object(
        predictions=_list(
            {
                "oneOf": [
                    _object(label=_TEXT, score=_NUMBER, classes=_CLASSES),
                    _object(error={"$ref": _REF + "Problem"}),
                ]
            }
        ),
        model=_MODEL,
    ),
    "Problem": {
        "description": "RFC 9457.",
        **_object(type={"enum": list(PROBLEMS)}, title=_TEXT, status={"type": "integer"}, detail=_TEXT),
    },
    "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "Live": _object(live={"type": "boolean"}),
    "Ready": _object(ready={"type": "boolean"}),
    "ModelReady": _object(name=_TEXT, ready={"type": "boolean"}),
    "ModelMetadata": _object(
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_TENSORS,
        outputs=_TENSORS,
        parameters={"type": "object"},
    ),
    "InferResponse": _object(
        required=("model_name", "model_version", "outputs"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list(
            _object(
                required=("name", "datatype", "shape"),
                name=_TEXT,
                datatype=_TEXT,
                shape=_list({"type": "integer"}),
                data=_list({}),
                parameters={"type": "object"},
            )
        ),
    ),
    "InferError": _object(error=_TEXT),
}
