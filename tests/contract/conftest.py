"""Where the contract is tried: the bare service, and the emulator that SERVERLESS_BEES_TEST_PROVIDER names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from serverless_bees.service.app import Service
from serverless_bees.settings import Settings
from serverless_bees.tools.emulators import PROVIDERS, emulator_class
from serverless_bees.tools.emulators.base import HOST, Emulator
from tests.contract.cases import ENVIRON
from tests.support.endpoints import Headers, Send, bare, over_http, served

PROVIDER = os.environ.get("SERVERLESS_BEES_TEST_PROVIDER", "")


def pytest_report_header() -> str:
    return f"contract: the bare service{' and ' + PROVIDER if PROVIDER else ''}; nox -s {' '.join(PROVIDERS)} tries all"


@pytest.fixture(scope="session")
def service() -> Service:
    return Service(Settings.from_env(ENVIRON))


@pytest.fixture(scope="session")
def reference(service: Service) -> Send:
    """The bare service."""
    return bare(service)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator | None]:
    if not PROVIDER:
        yield None
        return
    with emulator_class(PROVIDER)(environ=ENVIRON) as running:
        yield running


@pytest.fixture(scope="session")
def key(emulator: Emulator | None) -> Headers:
    """What a caller has to send along to be let in."""
    return tuple(emulator.headers.items()) if emulator else ()


@pytest.fixture(scope="session")
def send(reference: Send, emulator: Emulator | None, key: Headers) -> Send:
    """The provider under test; without one the bare service itself."""
    return over_http(HOST, emulator.port, key) if emulator else reference


@pytest.fixture(scope="session")
def port(service: Service, emulator: Emulator | None) -> Iterator[int]:
    """Where clients of other people's find the provider under test, or the bare service."""
    if emulator:
        yield emulator.port
        return
    with served(service) as bare_port:
        yield bare_port
