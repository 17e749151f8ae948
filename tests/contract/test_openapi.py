"""What ``/openapi.json`` promises: valid by a kept validator, complete, and kept by the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from serverless_bees.service.app import ROUTES, Service
from serverless_bees.service.messages import PROBLEMS, Request, Response

BEE = (Path(__file__).parents[2] / "samples" / "bee.jpg").read_bytes()
IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(BEE) + 4}}
BINARY_HEAD = json.dumps({"id": "7", "inputs": [IMAGE], "outputs": [{"name": "scores"}]}).encode()


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(service.handle(Request("GET", "/openapi.json")).body)
    return loaded


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_it_lists_every_route_and_no_other(document: dict[str, Any]) -> None:
    listed = {
        path: {name.upper() for name in operations if name != "parameters"}
        for path, operations in document["paths"].items()
    }
    assert listed == {path: set(methods) for path, methods in ROUTES.items()}


def test_problem_types_are_those_of_the_service(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"] == list(PROBLEMS)


MODEL, VERSIONED = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
ANSWERED = [
    ("GET", "/", "", {}, b"", 200),
    ("GET", "/openapi.json", "", {}, b"", 200),
    ("GET", "/predict", "url=https://127.0.0.1/x.jpg", {}, b"", 422),
    ("GET", "/predict", "", {}, b"", 400),
    ("POST", "/predict", "", {"content-type": "image/jpeg"}, BEE, 200),
    ("POST", "/predict", "", {"content-type": "image/jpeg"}, BEE[:900], 422),
    ("POST", "/predict", "", {"content-type": "text/plain"}, b"bee", 415),
    ("POST", "/predict", "", {"transfer-encoding": "chunked"}, b"", 411),
    ("POST", "/predict", "", {"content-type": "application/json"}, b'{"instances":[{"image":"AAAA"}]}', 200),
    ("GET", "/v2", "", {}, b"", 200),
    ("GET", "/v2/health/live", "", {}, b"", 200),
    ("GET", "/v2/health/ready", "", {}, b"", 200),
    ("GET", MODEL, "", {}, b"", 200),
    ("GET", f"{MODEL}/ready", "", {}, b"", 200),
    ("GET", f"{VERSIONED}", "", {}, b"", 200),
    ("GET", f"{VERSIONED}/ready", "", {}, b"", 200),
    ("POST", f"{MODEL}/infer", "", {}, b"{}", 400),
    (
        "POST",
        f"{MODEL}-image/infer",
        "",
        {"inference-header-content-length": str(len(BINARY_HEAD))},
        BINARY_HEAD + len(BEE).to_bytes(4, "little") + BEE,
        200,
    ),
]


@pytest.mark.parametrize(
    ("method", "route", "query", "headers", "body", "status"), ANSWERED, ids=[f"{a[0]} {a[1]} {a[5]}" for a in ANSWERED]
)
def test_an_answer_is_as_documented(
    service: Service,
    document: dict[str, Any],
    method: str,
    route: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    info = service.predictor.info
    path = route.replace("{model}", info.name).replace("{version}", info.version)
    response: Response = service.handle(Request(method, path, query, headers, body))
    assert response.status == status
    documented = document["paths"][route.replace("{model}-image", "{model}")][method.lower()]["responses"][str(status)]
    schema = documented["content"][response.headers["content-type"]]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    validator.validate(json.loads(response.body))
