"""The commands of ``serverless-bees``. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import inspect as inspect_module
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .engines import choose_engine, engine_names, missing
from .engines.proofs import prove_model
from .errors import ServerlessBeesError
from .modelfile import ModelFile
from .settings import current
from .spec import AssumedSpecWarning, resolve_spec

if TYPE_CHECKING:
    from .predictor import Prediction

    Result = tuple[str, Prediction | Exception]

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp"}
"""What is taken from a folder; a file named by itself may have any suffix."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Classifies pictures with a TensorFlow Lite model.",
)

Model = Annotated[str | None, typer.Option(help="The .tflite file; by default the bundled bees-wasps.")]
SpecFile = Annotated[str | None, typer.Option("--spec", help="The model's spec, if not beside or inside the model.")]
Runtime = Annotated[str | None, typer.Option(help=f"The engine: {', '.join(engine_names())}.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.callback(invoke_without_command=True)
def version(
    version: Annotated[bool, typer.Option("--version", help="Prints the version and stops.", is_eager=True)] = False,
) -> None:
    """Classifies pictures with a TensorFlow Lite model."""
    if version:
        typer.echo(f"serverless-bees {__version__}")
        raise typer.Exit


@app.command()
def predict(
    pictures: Annotated[list[str], typer.Argument(metavar="PATH|URL|FOLDER...", help="'-' is standard input.")],
    model: Model = None,
    spec: SpecFile = None,
    runtime: Runtime = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="How many classes to name at most.")] = None,
    min_score: Annotated[float | None, typer.Option(help="The least score of a class that is named.")] = None,
    decode: Annotated[str | None, typer.Option(help="exact: the reference path; fast: scaled JPEG decoding.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
) -> None:
    """Classifies pictures. Exit code 1: some failed, with a line each; 2: nothing could be done."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    with _complaints():
        from .predictor import Predictor

        predictor = Predictor(model, spec, runtime=runtime, decode=decode)
        names = list(_expanded(pictures))
        images = (sys.stdin.buffer.read() if name == "-" else name for name in names)
        outcomes = zip(names, predictor.predict_each(images, top_k, min_score), strict=True)
        write = _write_json if as_json else _write_csv if as_csv else _write_table
        failed = write(_with_progress(outcomes, len(names)))
    if failed or not names:
        typer.echo(f"{failed} of {len(names)} pictures failed" if names else "no picture was found", err=True)
        raise typer.Exit(1)


@app.command()
def inspect(
    model: Annotated[str | None, typer.Argument(help="The .tflite file; by default the bundled bees-wasps.")] = None,
    spec: SpecFile = None,
    runtime: Runtime = None,
    as_json: AsJson = False,
) -> None:
    """Shows a model's tensors, its spec and where each part comes from, and the engine chosen and why."""
    from .predictor import default_model

    with _complaints():
        file = ModelFile(model or current().model or default_model())
        resolved = resolve_spec(file, spec or current().spec or None)
        engine = choose_engine(runtime)
        digest = prove_model(engine.name, file)
    report: dict[str, Any] = {
        "file": os.path.abspath(file.path),
        "bytes": file.stat.st_size,
        "sha256": digest,
        "input": {**file.input._asdict()},
        "output": {**file.output._asdict()},
        "spec": {
            field: {"value": value, "from": resolved.sources[field]}
            for field, value in resolved._asdict().items()
            if field != "sources"
        },
        "assumed": resolved.assumed,
        "engine": engine._asdict(),
        "engines": {name: missing(name) or "can run here" for name in engine_names()},
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "from", box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = [
        ("file", report["file"], ""),
        ("size", f"{file.stat.st_size:,} bytes", ""),
        ("sha256", digest, ""),
        ("input", f"{file.input.name}: {file.input}", "model"),
        ("output", f"{file.output.name}: {file.output}", "model"),
        *((f"spec: {field}", _shown(part["value"]), part["from"]) for field, part in report["spec"].items()),
        ("engine", engine.name, engine.why),
        *((f"engine {name}", state, "") for name, state in report["engines"].items()),
    ]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console().print(table)


@app.command()
def emulate(
    provider: Annotated[str, typer.Argument(help="aws, azure or gcp.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen on 127.0.0.1; 0 is any.")] = 8080,
    source: Annotated[Path | None, typer.Option(help="The function's folder; by default our adapter.")] = None,
    front: Annotated[str | None, typer.Option(help="aws: http-api, rest-api, alb, alb-multi, function-url.")] = None,
    host: Annotated[str | None, typer.Option(help="azure: func runs Microsoft's own host.")] = None,
) -> None:
    """Runs a function under a local emulator of its cloud until it is interrupted."""
    from .tools.emulators import PROVIDERS, emulator_class

    if provider not in PROVIDERS:
        raise typer.BadParameter(f"no provider is named {provider!r}; there are {', '.join(PROVIDERS)}")
    options: dict[str, Any] = {name: value for name, value in (("front", front), ("host", host)) if value}
    emulator_type = emulator_class(provider)
    unknown = options.keys() - inspect_module.signature(emulator_type).parameters
    if unknown:
        raise typer.BadParameter(f"--{unknown.pop()} is not for {provider}")
    with _complaints():
        try:
            emulator = emulator_type(source, port=port, on_log=sys.stderr.write, **options)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        for part in emulator_type.parts:
            typer.echo(f"{'real' if part.real else 'imitated':9} {part.name}: {part.what}", err=True)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with emulator:
            typer.echo(emulator.url)
            for line in emulator.hints():
                typer.echo(line, err=True)
            stop.wait()


def _expanded(pictures: Iterable[str]) -> Iterator[str]:
    """Each picture by itself: a folder gives its pictures, in order of their paths, sub-folders too."""
    for name in pictures:
        path = Path(name)
        if "://" in name or not path.is_dir():
            yield name
            continue
        found = sorted(str(entry) for entry in path.rglob("*") if entry.suffix.lower() in PICTURE_SUFFIXES)
        if not found:
            _complain(f"{name}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        yield from found


def _with_progress(outcomes: Iterable[Result], total: int) -> Iterator[Result]:
    if total < 10 or not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, total=total, console=Console(stderr=True), description="Predicting", transient=True)


def _write_json(outcomes: Iterable[Result]) -> int:
    """One JSON array, an element a line, written as they come."""

    def element(name: str, outcome: Prediction | Exception) -> str:
        if isinstance(outcome, Exception):
            fields: dict[str, Any] = {"error": {"type": _type(outcome), "detail": _detail(outcome)}}
        else:
            fields = outcome._asdict()
            fields["classes"] = [entry._asdict() for entry in outcome.classes]
            fields["model"] = outcome.model._asdict()
        return json.dumps({"image": name, **fields}, ensure_ascii=False)

    failed = 0
    separator = "[\n"
    for name, outcome in outcomes:
        sys.stdout.write(separator + element(name, outcome))
        separator = ",\n"
        failed += _failed(name, outcome)
    sys.stdout.write("\n]\n" if separator != "[\n" else "[]\n")
    return failed


def _write_csv(outcomes: Iterable[Result]) -> int:
    import csv

    failed = 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "label", "score", "error", "classes"])
    for name, outcome in outcomes:
        failed += _failed(name, outcome)
        if isinstance(outcome, Exception):
            writer.writerow([name, "", "", f"{_type(outcome)}: {_detail(outcome)}", ""])
        else:
            classes = "; ".join(f"{entry.label}={entry.score}" for entry in outcome.classes)
            writer.writerow([name, outcome.label, outcome.score, "", classes])
    return failed


def _write_table(outcomes: Iterable[Result]) -> int:
    from rich.table import Table
    from rich.text import Text

    failed = 0
    table = Table("picture", "label", "score", "classes", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, outcome in outcomes:
        failed += _failed(name, outcome)
        if not isinstance(outcome, Exception):
            classes = ", ".join(f"{entry.label} {entry.score:.4f}" for entry in outcome.classes)
            table.add_row(Text(name), Text(outcome.label, style="bold"), f"{outcome.score:.4f}", Text(classes))
    if table.row_count:
        _console().print(table)
    return failed


def _failed(name: str, outcome: object) -> bool:
    """Whether it failed; says so in a line."""
    if isinstance(outcome, Exception):
        _complain(f"{name}: {_detail(outcome)}")
    return isinstance(outcome, Exception)


def _type(error: Exception) -> str:
    if isinstance(error, ServerlessBeesError):
        return error.type
    return "not-found" if isinstance(error, FileNotFoundError) else "unreadable"


def _detail(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe is no 80 columns wide; what is cut there is lost.
    return console if console.is_terminal else Console(highlight=False, width=10_000)


def _shown(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _complain(line: str) -> None:
    typer.echo(f"serverless-bees: {line}", err=True)


@contextmanager
def _complaints() -> Iterator[None]:
    """Warnings and errors as a line each, not as traces; exit code 2 for an error."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        _complain(f"{'warning: ' if issubclass(category, AssumedSpecWarning) else category.__name__ + ': '}{message}")

    shown: Callable[..., None] = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    except ServerlessBeesError as error:
        _complain(str(error))
        raise typer.Exit(2) from error
    finally:
        warnings.showwarning = shown
