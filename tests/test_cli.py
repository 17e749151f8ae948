"""The command line, run as a user runs it: in a process of its own."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from serverless_bees import Predictor, __version__
from tests.support.models import write_model

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"


def run(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "serverless_bees", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, input=stdin, cwd=cwd, check=False, timeout=120)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, one below the other, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    shutil.copy(SAMPLES / "bee.jpg", folder / "below" / "b.JPG")
    shutil.copy(SAMPLES / "wasp.jpg", folder / "w.jpg")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_quick_start_tells_the_bee_from_the_wasp() -> None:
    result = run("predict", "samples/", cwd=ROOT)
    assert result.returncode == 0
    lines = [line.split() for line in result.stdout.decode().splitlines()]
    assert lines[0] == ["picture", "label", "score", "classes"]
    assert [line[:2] for line in lines[1:]] == [["samples/bee.jpg", "bee"], ["samples/wasp.jpg", "wasp"]]


def test_json_holds_what_the_library_gives(pictures: Path) -> None:
    result = run("predict", "--json", "--top-k", "1", pictures, pictures / "notes.txt", "no-such-file.jpg")
    assert result.returncode == 1
    bee, wasp, text, absent = json.loads(result.stdout)
    expected = Predictor().predict(SAMPLES / "bee.jpg")
    assert bee == {
        "image": str(pictures / "below" / "b.JPG"),
        "label": "bee",
        "score": expected.score,
        "classes": [{"label": "bee", "score": expected.score}],
        "model": {"name": "bees-wasps", "version": expected.model.version},
    }
    assert wasp["label"] == "wasp"
    assert text["error"]["type"] == "unsupported-media-type"
    assert absent == {
        "image": "no-such-file.jpg",
        "error": {"type": "not-found", "detail": "No such file or directory"},
    }


def test_csv_has_a_row_a_picture(pictures: Path) -> None:
    result = run("predict", "--csv", pictures, pictures / "notes.txt")
    rows = list(csv.DictReader(io.StringIO(result.stdout.decode())))
    assert [row["label"] for row in rows] == ["bee", "wasp", ""]
    assert rows[2]["error"].startswith("unsupported-media-type: ")
    assert float(rows[0]["score"]) > 0.5
    assert result.returncode == 1


def test_a_failed_picture_gets_a_line_and_the_others_go_on(pictures: Path) -> None:
    broken = pictures / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    result = run("predict", broken, "https://127.0.0.1/x.jpg?key=secret", pictures / "w.jpg")
    assert result.returncode == 1
    errors = [line for line in result.stderr.decode().splitlines() if line.startswith("serverless-bees: ")]
    assert "the PNG picture is broken" in errors[0]
    assert "127.0.0.1" in errors[1]
    assert "2 of 3 pictures failed" in result.stderr.decode()
    assert "wasp" in result.stdout.decode()


def test_standard_input_is_a_picture() -> None:
    result = run("predict", "--json", "-", stdin=(SAMPLES / "wasp.jpg").read_bytes())
    assert json.loads(result.stdout)[0]["label"] == "wasp"


def test_an_empty_folder_is_a_failure_that_is_named(tmp_path: Path) -> None:
    result = run("predict", tmp_path)
    assert result.returncode == 1
    assert f"{tmp_path}: no picture in this folder" in result.stderr.decode()


def test_a_terminal_sees_a_progress_bar_on_many_pictures(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "serverless_bees", "predict", "--csv", str(tmp_path)]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=child, env={**os.environ, "TERM": "xterm"}, check=False, timeout=120
    )
    os.close(child)
    seen = b""
    try:
        while chunk := os.read(parent, 4096):
            seen += chunk
    except OSError:  # Linux says so when nobody is left at the other end
        pass
    os.close(parent)
    assert result.returncode == 0
    assert b"Predicting" in seen
    assert len(result.stdout.splitlines()) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--model", "pyproject.toml", "x.jpg"], "pyproject.toml: not a TFLite model"),
        (["predict", "--model", "absent.tflite", "x.jpg"], "absent.tflite: cannot open the model"),
        (["predict", "--runtime", "onnx", "x.jpg"], "no engine is named 'onnx'"),
        (["predict", "--decode", "loose", "x.jpg"], "decode is 'loose'"),
        (["predict", "--min-score", "nan", "x.jpg"], "min_score is nan"),
        (["predict", "--json", "--csv", "x.jpg"], "exclude each other"),
        (["predict", "--top-k", "0", "x.jpg"], "--top-k"),
        (["predict"], "Missing argument"),
        (["inspect", "absent.tflite"], "absent.tflite: cannot open the model"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str) -> None:
    result = run(*arguments, cwd=ROOT)
    assert result.returncode == 2
    assert message in result.stderr.decode()
    assert b"Traceback" not in result.stderr
    assert not result.stdout


def test_inspect_says_where_each_part_comes_from(tmp_path: Path) -> None:
    result = run("inspect", "--runtime", "litert-c", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0
    assert report["input"]["shape"] == [1, 150, 150, 3]
    assert report["spec"]["labels"] == {"value": ["bee", "wasp"], "from": "bees-wasps.json"}
    assert report["engine"] == {"name": "litert-c", "why": "asked for by argument"}
    assert report["assumed"] == []

    model = write_model(tmp_path / "plain.tflite")
    result = run("inspect", model)
    text = result.stdout.decode()
    assert "assuming labels '0', '1', '2' and pixels divided by 255" in result.stderr.decode()
    assert any(
        line.split()[:2] == ["spec:", "labels"] and line.endswith("assumed")
        for line in map(str.rstrip, text.splitlines())
    )
    assert "float32 1x8x8x3" in text


def test_version() -> None:
    assert run("--version").stdout.decode() == f"serverless-bees {__version__}\n"


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from serverless_bees.__main__ import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert result.returncode == 1
    assert result.stderr.decode() == (
        "serverless-bees: the command line needs typer: pip install 'serverless-bees[cli]'\n"
    )
