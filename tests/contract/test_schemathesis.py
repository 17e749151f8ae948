"""Requests that schemathesis makes up from the service's own openapi.json: whatever they are, none ends in a 5xx."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from serverless_bees.images import FORMATS
from serverless_bees.service.app import ROUTES
from serverless_bees.service.openapi import openapi
from serverless_bees.tools.emulators.base import HOST
from tests.support.endpoints import Headers

CASES = int(os.environ.get("SERVERLESS_BEES_TEST_CASES", "1000"))
"""In all, spread evenly over the operations."""


@schemathesis.serializer(*(f"image/{name.lower()}" for name in FORMATS))
def picture(context: schemathesis.SerializationContext, value: Any) -> bytes | None:
    """A body that is made up as bytes goes as it is."""
    return value.encode() if isinstance(value, str) else value


schema = schemathesis.openapi.from_dict(openapi())


@schema.parametrize()
@settings(
    max_examples=CASES // sum(map(len, ROUTES.values())) + 1,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_no_request_ends_in_a_server_error(case: schemathesis.Case[Any], port: int, key: Headers) -> None:
    response = case.call(base_url=f"http://{HOST}:{port}", headers=dict(key))

    case.validate_response(response, checks=[not_a_server_error])
