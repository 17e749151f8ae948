"""Faults of our own and of the platform, on the bare service: what the client sees, and what the log keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serverless_bees.service import app
from serverless_bees.service.app import Service
from serverless_bees.service.messages import Request, Response, TooLargeError
from serverless_bees.settings import Settings
from tests.contract.cases import ENVIRON, INFER_IMAGE, JPEG, ONE_IN, document


def service_with(**settings: str) -> Service:
    return Service(
        Settings.from_env({**ENVIRON, **{"SERVERLESS_BEES_" + name: text for name, text in settings.items()}})
    )


def predict(service: Service) -> Response:
    return service.handle(Request("POST", "/predict", body=JPEG))


def infer(service: Service) -> Response:
    return service.handle(Request("POST", INFER_IMAGE, body=document(ONE_IN)))


def test_overload_is_503_with_retry_after() -> None:
    service = service_with(POOL_SIZE="1", POOL_WAIT="0")
    with service.predictor._pool.engine():
        answer, inferred = predict(service), infer(service)

    assert (answer.status, json.loads(answer.body)["type"]) == (503, "overloaded")
    assert (inferred.status, list(json.loads(inferred.body))) == (503, ["error"])
    assert answer.headers["retry-after"] == inferred.headers["retry-after"] == "1"
    assert predict(service).status == 200


def test_one_overloaded_instance_fails_the_whole_batch() -> None:
    service = service_with(POOL_SIZE="1", POOL_WAIT="0")
    body = document({"instances": [{"image": "*"}, {"image": ONE_IN["inputs"][0]["data"][0]}]})
    with service.predictor._pool.engine():
        answer = service.handle(Request("POST", "/predict", headers={"content-type": "application/json"}, body=body))
    assert (answer.status, json.loads(answer.body)["type"]) == (503, "overloaded")


def test_a_model_that_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = service_with(MODEL=str(tmp_path / "swordfish" / "none.tflite"))
    service.warm_up()
    answers = [predict(service), infer(service), service.handle(Request("GET", "/"))]

    assert [answer.status for answer in answers] == [503, 503, 503]
    assert json.loads(answers[0].body)["type"] == "model-unavailable"
    assert service.handle(Request("GET", "/v2/health/ready")).status == 503
    assert service.handle(Request("GET", "/v2/health/live")).status == 200
    assert service.handle(Request("GET", "/openapi.json")).status == 200
    assert all(b"swordfish" not in answer.body for answer in answers)
    (message,) = caplog.messages  # once, and not for every request
    assert message.startswith("the model cannot be loaded: none.tflite: ")


def test_a_model_that_comes_later_is_found(
    tmp_path: Path, default_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MODEL_RETRY_SECONDS", 0.0)
    model = tmp_path / "late.tflite"
    service = service_with(MODEL=str(model))
    assert predict(service).status == 503

    model.write_bytes(default_model_path.read_bytes())
    model.with_suffix(".json").write_bytes(default_model_path.with_suffix(".json").read_bytes())
    assert predict(service).status == 200


def test_an_unforeseen_error_is_a_500_that_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(call: object) -> None:
        raise RuntimeError("swordfish")

    monkeypatch.setattr(app, "index", broken)
    answer = service_with().handle(Request("GET", "/", id="the-id"))

    assert (answer.status, json.loads(answer.body)["type"]) == (500, "internal")
    assert answer.headers["x-request-id"] == "the-id"
    assert b"swordfish" not in answer.body
    assert "RuntimeError at test_faults.py:" in caplog.text
    assert "swordfish" not in caplog.text


def test_what_an_adapter_could_not_read_becomes_a_problem_of_its_route() -> None:
    service = service_with(CORS_ORIGINS="*")
    fault = TooLargeError("the body has more bytes than the platform's limit, 5")
    answer = service.handle(Request("POST", "/predict", headers={"origin": "https://a.example"}, id="x"), fault)

    assert (answer.status, json.loads(answer.body)["detail"]) == (413, str(fault))
    assert (answer.headers["access-control-allow-origin"], answer.headers["x-request-id"]) == ("*", "x")
    assert answer.facts["route"] == "/predict"
    assert json.loads(service.handle(Request("POST", INFER_IMAGE), fault).body) == {"error": str(fault)}
    assert service.handle(Request("POST", "/nothing"), fault).status == 404


def test_an_answer_that_the_platform_would_not_take() -> None:
    service = Service(Settings.from_env(ENVIRON), max_response_bytes=250)
    assert predict(service).status == 200
    answer = service.handle(Request("GET", "/openapi.json"))
    assert (answer.status, json.loads(answer.body)["type"]) == (413, "payload-too-large")
