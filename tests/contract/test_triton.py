"""Triton's own client talks to the provider under test, or to the bare service behind a small server."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from serverless_bees.service.app import Service
from tests.contract.cases import INPUT, JPEG, MODEL, OUTPUT, PNG, VERSION, pixels
from tests.contract.conftest import PROVIDER
from tests.support.endpoints import Headers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the client's own, when it is imported
    if not PROVIDER:  # a provider's session has it
        pytest.importorskip("tritonclient.http", reason="Triton's client is missing: pip install 'tritonclient[http]'")
    triton: Any = import_module("tritonclient.http")
    InferenceServerException: Any = import_module("tritonclient.utils").InferenceServerException

IMAGE_MODEL = MODEL + "-image"


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Any]:
    with triton.InferenceServerClient(
        f"127.0.0.1:{port}", concurrency=4, network_timeout=60, connection_timeout=60
    ) as client:
        yield client


@pytest.fixture
def headers(key: Headers) -> dict[str, str]:
    return dict(key)  # for each test anew: the client adds its own to it


def raw_input(batch: Any, binary: bool) -> Any:
    tensor = triton.InferInput(INPUT.name, list(batch.shape), "FP32")
    tensor.set_data_from_numpy(batch, binary_data=binary)
    return tensor


def pictures(*encoded: bytes, binary: bool) -> Any:
    """BYTES go as they are in binary form, and in base64 in JSON, which has no bytes."""
    tensor = triton.InferInput("image", [len(encoded)], "BYTES")
    data = encoded if binary else tuple(base64.b64encode(picture) for picture in encoded)
    tensor.set_data_from_numpy(np.array(data, dtype=np.object_), binary_data=binary)
    return tensor


def wanted(service: Service, *encoded: bytes) -> np.ndarray[Any, Any]:
    return np.array([service.predictor.scores(picture) for picture in encoded], np.float32)


def test_health_and_metadata(client: Any, headers: dict[str, str]) -> None:
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(MODEL, headers=headers)
    assert client.is_model_ready(IMAGE_MODEL, VERSION, headers=headers)
    assert not client.is_model_ready("cats", headers=headers)
    assert client.get_server_metadata(headers=headers)["name"] == "serverless-bees"
    metadata = client.get_model_metadata(MODEL, headers=headers)
    assert metadata["versions"] == [VERSION]
    assert metadata["inputs"] == [{"name": INPUT.name, "datatype": "FP32", "shape": [-1, *INPUT.shape[1:]]}]
    assert client.get_model_metadata(IMAGE_MODEL, headers=headers)["inputs"][0]["datatype"] == "BYTES"


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_raw_tensors(client: Any, service: Service, headers: dict[str, str], binary_in: bool, binary_out: bool) -> None:
    batch = pixels(2)
    output = triton.InferRequestedOutput(OUTPUT.name, binary_data=binary_out)

    answer = client.infer(MODEL, [raw_input(batch, binary_in)], outputs=[output], headers=headers)

    assert answer.get_response()["model_version"] == VERSION
    assert np.array_equal(answer.as_numpy(OUTPUT.name), service.predictor.predict_tensor(batch))


@pytest.mark.parametrize("binary", [True, False])
def test_pictures(client: Any, service: Service, headers: dict[str, str], binary: bool) -> None:
    answer = client.infer(
        IMAGE_MODEL, [pictures(JPEG, PNG, binary=binary)], VERSION, request_id="seven", headers=headers
    )

    assert answer.get_response()["id"] == "seven"
    assert np.array_equal(answer.as_numpy("scores"), wanted(service, JPEG, PNG))


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: Any, service: Service, headers: dict[str, str], binary: bool) -> None:
    output = triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)

    answer = client.infer(IMAGE_MODEL, [pictures(JPEG, binary=True)], outputs=[output], headers=headers)

    (classes,) = answer.as_numpy("scores")
    entries = [(entry if isinstance(entry, str) else entry.decode()).split(":") for entry in classes]
    assert sorted((index, label) for _, index, label in entries) == [("0", "bee"), ("1", "wasp")]
    assert float(entries[0][0]) == pytest.approx(max(service.predictor.scores(JPEG)), abs=1e-6)


def test_many_at_once(client: Any, service: Service, headers: dict[str, str]) -> None:
    requests = [client.async_infer(IMAGE_MODEL, [pictures(JPEG, binary=True)], headers=dict(headers)) for _ in range(8)]
    answers = [request.get_result(timeout=60) for request in requests]
    assert all(np.array_equal(answer.as_numpy("scores"), wanted(service, JPEG)) for answer in answers)


def test_errors_come_as_the_protocol_has_them(client: Any, headers: dict[str, str]) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'cats'"):
        client.get_model_metadata("cats", headers=headers)
    with pytest.raises(InferenceServerException, match="shape"):
        client.infer(MODEL, [raw_input(np.zeros((1, 2), np.float32), True)], headers=headers)
