"""Every case: the bare service answers as the contract says, and each provider byte for byte as it does."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.cases import CASES, FORM_CASES, JSON_CASES, PICTURE_CASES, Case
from tests.contract.conftest import PROVIDER
from tests.support.endpoints import Answer, Send

# What the contract says of an answer's headers; the rest is the platform's business.
CONTRACT_HEADERS = (
    "content-type", "allow", "retry-after", "vary", "x-content-type-options", "inference-header-content-length",
    "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
    "access-control-expose-headers", "access-control-max-age",
)  # fmt: skip


def sent(send: Send, case: Case) -> Answer:
    return send(case.method, case.target, case.headers, case.content(), case.chunked)


def contract_headers(answer: Answer) -> dict[str, object]:
    timings = answer.headers.get("server-timing", "")
    # What has no body has no type; Azure's library gives it one all the same.
    names = CONTRACT_HEADERS[answer.status == 204 :]
    return {
        **{name: answer.headers.get(name) for name in names},
        "server-timing": [entry.partition(";")[0] for entry in timings.split(", ")],
        "x-request-id": bool(answer.headers.get("x-request-id")),
    }


def test_names_of_cases_are_their_own() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert len(CASES) >= 80


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bare_service_answers_as_the_contract_says(reference: Send, case: Case) -> None:
    answer = sent(reference, case)

    assert answer.status == case.status, answer.body[:2000]
    assert answer.status < 500
    assert case.says in answer.body.decode("latin-1")
    if case.expect:
        body = json.loads(answer.body)
        assert {name: body.get(name) for name in case.expect} == case.expect
    assert {name: answer.headers.get(name) for name in case.returns} == case.returns
    if case.method == "HEAD" or case.status == 204:
        assert answer.body == b""
    elif answer.headers["content-type"] == "application/problem+json":
        assert list(json.loads(answer.body)) == ["type", "title", "status", "detail"]
        assert json.loads(answer.body)["status"] == case.status


@pytest.mark.skipif(not PROVIDER, reason="no provider is named; nox -s aws azure gcp")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_provider_answers_byte_for_byte_as_the_bare_service(reference: Send, send: Send, case: Case) -> None:
    if case.differs.get(PROVIDER):
        expected = case.differs[PROVIDER]
        assert sent(send, case).status == expected.status, expected.why
        return
    answer, wanted = sent(send, case), sent(reference, case)

    assert (answer.status, answer.body) == (wanted.status, wanted.body)
    assert contract_headers(answer) == contract_headers(wanted)


def test_eight_threads_get_their_own_answers(reference: Send, send: Send) -> None:
    cases = [
        case
        for case in (*PICTURE_CASES, *JSON_CASES, *FORM_CASES)
        if PROVIDER not in case.differs and len(case.content()) < 1_000_000
    ]
    wanted = [sent(reference, case) for case in cases]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda case: sent(send, case), cases))

    wrong = [
        case.name
        for case, answer, expected in zip(cases, answers, wanted, strict=True)
        if (answer.status, answer.body) != (expected.status, expected.body)
    ]
    assert wrong == []
