"""What an import and a first prediction load: each module is paid for at every cold start, so the list is kept here."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import serverless_bees
from serverless_bees import Predictor, errors
from tests.conftest import engines_under_test
from tests.support.pictures import encoded, scene

IMPORTED = ["__future__", "serverless_bees"]

# From bytes to a prediction through litert-c, with the model proven before; no NumPy, no binding of LiteRT.
# fmt: off
PREDICTED = [
    "serverless_bees", "serverless_bees.engines", "serverless_bees.engines.litert_c",
    "serverless_bees.engines.proofs", "serverless_bees.errors", "serverless_bees.images",
    "serverless_bees.modelfile", "serverless_bees.pool", "serverless_bees.predictor", "serverless_bees.settings",
    "serverless_bees.spec",
    "PIL", "PIL.ExifTags", "PIL.GimpGradientFile", "PIL.GimpPaletteFile", "PIL.Image", "PIL.ImageColor",
    "PIL.ImageFile", "PIL.ImageMode", "PIL.ImagePalette", "PIL.JpegImagePlugin", "PIL.JpegPresets",
    "PIL.PaletteFile", "PIL.TiffTags", "PIL._binary", "PIL._deprecate", "PIL._imaging", "PIL._util", "PIL._version",
    "__future__", "_collections", "_collections_abc", "_ctypes", "_functools", "_heapq", "_json", "_locale",
    "_operator", "_posixsubprocess", "_sre", "_stat", "_string", "_struct", "_typing", "_weakrefset", "array",
    "atexit", "collections", "collections.abc", "contextlib", "copyreg", "ctypes", "ctypes._endian",
    "encodings.ascii", "enum", "errno", "fcntl", "functools", "genericpath", "heapq", "importlib", "importlib._abc",
    "importlib._bootstrap", "importlib._bootstrap_external", "importlib.util", "itertools", "json", "json.decoder",
    "json.encoder", "json.scanner", "keyword", "locale", "logging", "math", "mmap", "operator", "os", "os.path",
    "posixpath", "re", "re._casefix", "re._compiler", "re._constants", "re._parser", "reprlib", "select",
    "selectors", "signal", "stat", "string", "struct", "subprocess", "textwrap", "threading", "traceback", "types",
    "typing", "warnings", "weakref", "zlib",
]
# fmt: on
# What some Pythons load beside it and others do not: parts of the standard library's own insides.
NOT_IN_EVERY_PYTHON = {"_colorize", "_tokenize", "linecache", "token", "tokenize", "typing.io", "typing.re"}

LOADED = """
import sys
sys.path[:] = {path!r}
before = set(sys.modules)
{code}
after = sorted(set(sys.modules) - before)
import json
print(json.dumps(after))
"""
PREDICT = """
from serverless_bees import Predictor
data = open({picture!r}, 'rb').read()
Predictor(runtime='litert-c').predict(data)
"""


def loaded(code: str) -> list[str]:
    """The modules that ``code`` loads into a bare interpreter: no site, so nothing of .pth files or coverage."""
    program = LOADED.format(path=[*filter(None, sys.path)], code=code)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=True, timeout=60)
    names: list[str] = json.loads(done.stdout)
    return names


def test_import_loads_nothing_but_itself() -> None:
    assert loaded("import serverless_bees; dir(serverless_bees); serverless_bees.__version__") == IMPORTED


def test_errors_and_settings_load_no_library() -> None:
    names = loaded("from serverless_bees import ImageError, ModelError, Settings; Settings()")
    assert not {"numpy", "PIL", "ai_edge_litert", "dataclasses", "inspect"} & set(names)


@pytest.mark.skipif("litert-c" not in engines_under_test(), reason="litert-c is not under test")
def test_prediction_loads_exactly_these_modules(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encoded(scene(), "JPEG"))
    Predictor(runtime="litert-c")  # proves the model and the library; a first proof takes subprocess and json too
    names = loaded(PREDICT.format(picture=str(picture)))
    assert [name for name in names if name not in NOT_IN_EVERY_PYTHON] == sorted(PREDICTED)


@pytest.mark.skipif("litert-c" not in engines_under_test(), reason="litert-c is not under test")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_no_format_needs_numpy_or_another_formats_reader(file_format: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(encoded(scene(), file_format))
    names = loaded(PREDICT.format(picture=str(picture)))
    assert not {"numpy", "ai_edge_litert", "urllib.request", "http.client", "ssl", "hashlib"} & set(names)
    readers = {name.removeprefix("PIL.").removesuffix("ImagePlugin").upper() for name in names if "ImagePlugin" in name}
    assert readers == {file_format}


@pytest.mark.parametrize("name", serverless_bees.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(serverless_bees, name) is not None
    assert name in dir(serverless_bees)


def test_star_import_takes_all_of_them() -> None:
    names: dict[str, object] = {}
    exec("from serverless_bees import *", names)  # noqa: S102
    assert set(names) - {"__builtins__"} == set(serverless_bees.__all__) == set(dir(serverless_bees))


def test_type_checkers_are_shown_the_same_names() -> None:
    tree = ast.parse(Path(serverless_bees.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {(node.module, name.name) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert {name for _, name in shown} | {"__version__"} == set(serverless_bees.__all__)
    for module, name in shown:
        assert getattr(serverless_bees, name) is getattr(sys.modules[f"serverless_bees.{module}"], name)


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert classes <= set(serverless_bees.__all__)
    assert all(issubclass(getattr(errors, name), errors.ServerlessBeesError) for name in classes)


def test_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serverless_bees' has no attribute 'Classifier'"):
        serverless_bees.Classifier  # noqa: B018
    with pytest.raises(ImportError):
        exec("from serverless_bees import Classifier")  # noqa: S102
