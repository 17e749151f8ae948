"""``serverless-bees emulate``, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from serverless_bees.tools.emulators import PROVIDERS, emulator_class

PICTURE = Path(__file__).parents[2] / "samples" / "wasp.jpg"
NAMED = os.environ.get("SERVERLESS_BEES_TEST_PROVIDER")


def process_exists(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda ending: ending.name)
@pytest.mark.parametrize("provider", [NAMED] if NAMED else PROVIDERS)
def test_it_serves_until_it_is_ended_and_leaves_nothing_behind(provider: str, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "serverless_bees", "emulate", provider, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        try:
            said = [process.stderr.readline() for _ in emulator_class(provider).parts]
            url = process.stdout.readline().strip()
            hint = ""
            while "curl" not in hint:
                hint = process.stderr.readline()
            headers = dict(part.split(": ", 1) for part in hint.split("'")[1::2] if ": " in part)
            request = urllib.request.Request(f"{url}/predict", PICTURE.read_bytes(), headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["label"] == "wasp"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        finally:
            process.send_signal(ending)
            process.communicate(timeout=60)
    assert all(line.startswith(("real", "imitated")) for line in said)
    assert {line.split()[0] for line in said} == {"real", "imitated"}
    assert process.returncode == (-ending if ending == signal.SIGKILL else 0)
    assert children
    deadline = time.monotonic() + 10
    while any(process_exists(int(child)) for child in children):
        assert time.monotonic() < deadline, "a process of the emulator outlived it"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["oracle"], "no provider is named 'oracle'; there are aws, azure, gcp"),
        (["gcp", "--front", "alb"], "--front is not for gcp"),
        (["aws", "--front", "kong"], "kong"),
        (["gcp", "--source", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "serverless_bees", "emulate", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
