"""The three engines that are an ``Interpreter`` class from Python: LiteRT, tflite-runtime, TensorFlow.

The class is the same under three names (https://ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter).
"""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import EngineError, ModelFileError
from ..modelfile import Tensor

if TYPE_CHECKING:
    from ..modelfile import ModelFile


class InterpreterEngine:
    """An engine over an ``Interpreter`` class; what differs is where the class comes from."""

    package: ClassVar[str]
    install: ClassVar[str]

    def __init__(self, model: ModelFile, num_threads: int) -> None:
        import numpy as np

        self._frombuffer = np.frombuffer
        self._interpreter = self._opened(model, num_threads)
        # Asked for once: get_input_details() costs as much as a small picture's whole preprocessing.
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.input, self.output = _tensor(inputs[0]), _tensor(outputs[0])
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]
        self._dtype = inputs[0]["dtype"]

    def _opened(self, model: ModelFile, num_threads: int) -> Any:
        """The interpreter of the very file that was checked, which may have been replaced at its path since."""
        try:
            same = os.path.samestat(os.stat(model.path), model.stat)
        except OSError:
            same = False
        if same:
            return self.interpreter(model.path, num_threads)
        return self.interpreter(model.path, num_threads, model_content=bytes(model.mapping))

    @classmethod
    def missing(cls) -> str:
        for package in (cls.package, "numpy"):
            if find_spec(package) is None:
                return f"{package} is not installed: {cls.install}"
        return ""

    @classmethod
    def installed_file(cls) -> str:
        spec = find_spec(cls.package)
        if spec is None or spec.origin is None:
            raise EngineError(cls.missing())
        return spec.origin

    @classmethod
    def trial(cls, path: str) -> str:
        import numpy as np

        interpreter = cls.interpreter(path, 1)
        try:
            for details in interpreter.get_input_details():
                interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
            interpreter.invoke()
            outputs = [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"{path}: {cls.package} cannot run the model: {error}") from error
        return b"".join(output.tobytes() for output in outputs).hex()

    @classmethod
    def interpreter(cls, path: str, num_threads: int, model_content: bytes | None = None) -> Any:
        """A new interpreter of the model at ``path``, or of its content where that is given, its tensors allocated."""
        try:
            factory = cls.interpreter_class()
        except ImportError as error:
            raise EngineError(f"{cls.package} is installed but cannot be imported: {error}") from error
        try:
            # The path rather than the content: the runtime maps the file, content takes memory of its own.
            source: dict[str, Any] = {"model_content": model_content} if model_content else {"model_path": path}
            interpreter = factory(**source, num_threads=num_threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise ModelFileError(f"{path}: {cls.package} cannot load the model: {error}") from error
        return interpreter

    @classmethod
    def interpreter_class(cls) -> Any:
        raise NotImplementedError

    def run(self, pixels: bytes) -> bytes:
        tensor = self._frombuffer(pixels, self._dtype).reshape(self.input.shape)
        try:
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
            scores: bytes = self._interpreter.get_tensor(self._output_index).tobytes()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.package} failed: {error}") from error
        return scores

    def close(self) -> None:
        self._interpreter = None


class LiteRt(InterpreterEngine):
    """``ai_edge_litert.interpreter.Interpreter``, what Google renamed tflite-runtime to."""

    package = "ai_edge_litert"
    install = "pip install ai-edge-litert"

    @classmethod
    def interpreter_class(cls) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter


class TfliteRuntime(InterpreterEngine):
    """``tflite_runtime.interpreter.Interpreter`` 2.14, its last release; Python 3.11 and ``numpy<2``."""

    package = "tflite_runtime"
    install = "pip install 'serverless-bees[tflite-runtime]' (Python 3.11)"

    @classmethod
    def interpreter_class(cls) -> Any:
        from tflite_runtime.interpreter import Interpreter

        return Interpreter


class TensorFlow(InterpreterEngine):
    """``tf.lite.Interpreter``, the last resort where only TensorFlow is installed."""

    package = "tensorflow"
    install = "pip install tensorflow"

    @classmethod
    def interpreter_class(cls) -> Any:
        def interpreter(**arguments: Any) -> Any:
            with warnings.catch_warnings():
                # It says at each construction that LiteRT replaces it; that is why it comes last.
                warnings.simplefilter("ignore")
                from tensorflow.lite.python.interpreter import Interpreter

                return Interpreter(**arguments)

        return interpreter


def _tensor(details: dict[str, Any]) -> Tensor:
    import numpy as np

    scale, zero_point = details["quantization"]
    return Tensor(
        details["name"],
        tuple(map(int, details["shape"])),
        np.dtype(details["dtype"]).name,
        float(scale),
        int(zero_point),
    )
