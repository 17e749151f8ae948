"""LiteRT's C API through ctypes: the same library as ``litert``, without NumPy and without a binding.

A wrong call here is a crash and not an exception, so the use of the library is bounded: ``_SIGNATURES`` declares
every function that is called; only the exact builds in ``KNOWN_BUILDS`` are used, and each has predicted a tiny
model in a process of its own before its first use on a machine; models come as checked mappings.

Source: the headers under ``litert/c/`` of LiteRT 2.3 (https://github.com/google-ai-edge/LiteRT).
"""

from __future__ import annotations

import ctypes
import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import EngineError, ModelFileError
from ..modelfile import Tensor

if TYPE_CHECKING:
    from ..modelfile import ModelFile

KNOWN_BUILDS = {
    # SHA-256 of libLiteRt.so -> where it is from; the wheels for CPython 3.11 to 3.13 carry the same file.
    "eec47eb35e2924b3166015887e652a58edc9af823ae38e02bf83bef2548300bb": "ai-edge-litert 2.3.0, Linux x86_64",
    "b57687dc234d2b8b0598aef5a9c961ed24263df8f8b3f56adbee1cff618e544b": "ai-edge-litert 2.3.0, Linux arm64",
}
SELF_TEST = os.path.join(os.path.dirname(__file__), "selftest.tflite")
SELF_TEST_SCORE = 0.390505
"""What the self-test's model gives in ``trial``; between processors the last bits differ."""

_Handle = ctypes.c_void_p
_Out = ctypes.c_void_p  # by reference
_SIGNATURES = {
    "LiteRtCreateEnvironment": (ctypes.c_int, _Handle, _Out),
    "LiteRtCreateModelFromBuffer": (_Handle, ctypes.c_void_p, ctypes.c_size_t, _Out),
    "LiteRtCreateOptions": (_Out,),
    "LiteRtSetOptionsHardwareAccelerators": (_Handle, ctypes.c_int),
    "LiteRtCreateOpaqueOptions": (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, _Out),
    "LiteRtAddOpaqueOptions": (_Handle, _Handle),
    "LiteRtCreateCompiledModel": (_Handle, _Handle, _Handle, _Out),
    "LiteRtGetModelSignature": (_Handle, ctypes.c_size_t, _Out),
    "LiteRtGetNumSignatureInputs": (_Handle, _Out),
    "LiteRtGetNumSignatureOutputs": (_Handle, _Out),
    "LiteRtGetSignatureInputTensorByIndex": (_Handle, ctypes.c_size_t, _Out),
    "LiteRtGetSignatureOutputTensorByIndex": (_Handle, ctypes.c_size_t, _Out),
    "LiteRtGetTensorName": (_Handle, _Out),
    "LiteRtGetRankedTensorType": (_Handle, _Out),
    "LiteRtGetQuantizationTypeId": (_Handle, _Out),
    "LiteRtGetPerTensorQuantization": (_Handle, _Out),
    "LiteRtGetCompiledModelOutputTensorLayouts": (_Handle, ctypes.c_size_t, ctypes.c_size_t, _Out, ctypes.c_bool),
    "LiteRtCreateTensorBufferFromHostMemory": (_Out, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, _Out),
    "LiteRtRunCompiledModel": (_Handle, ctypes.c_size_t, ctypes.c_size_t, _Out, ctypes.c_size_t, _Out),
}
_DESTROYERS = ("TensorBuffer", "CompiledModel", "Options", "Model")  # each LiteRtDestroy… takes one handle

_HARDWARE_CPU = 1
_ENV_AUTO_REGISTER_ACCELERATORS = 24  # else it looks for four GPU libraries on the loader's path
_ENV_MIN_LOGGER_SEVERITY = 25  # else it prints nine lines to stderr
_LOG_ERRORS = 3
_ANY_INT = 2
_PER_TENSOR = 1
_DTYPES = {1: "float32", 3: "uint8", 9: "int8"}  # as ModelFile checked them; the API has its own numbers
_TRIAL_PIXELS = {"float32": b"\x00\x00\x00\x3f", "uint8": b"\x40", "int8": b"\x40"}  # 0.5 or 64
_ALIGNMENT = 64
_SLACK = 64  # XNNPACK's kernels read past the end of a tensor (XNN_EXTRA_BYTES)


class _EnvOption(ctypes.Structure):
    _fields_ = (("tag", ctypes.c_int), ("type", ctypes.c_int64), ("value", ctypes.c_int64))


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank_and_flags", ctypes.c_uint32),  # 7 bits of rank, then has_strides
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dimensions[: self.rank_and_flags & 0x7F])


class _RankedTensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


class _PerTensorQuantisation(ctypes.Structure):
    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int64))


class LiteRtC:
    """One compiled model of LiteRT's C API."""

    def __init__(self, model: ModelFile, num_threads: int) -> None:
        self._pid = os.getpid()
        self._handles: list[tuple[str, ctypes.c_void_p]] = []
        self._name = model.path
        self._mapping = model.mapping  # the weights are read from it as long as the compiled model lives
        with _process.lock:
            try:
                self._load(_process.runtime(), num_threads)
            except ModelFileError:
                self.close()
                raise

    @classmethod
    def missing(cls) -> str:
        from .proofs import prove_library

        path = library_path()
        if not path:
            return "ai-edge-litert with libLiteRt.so is not installed: pip install ai-edge-litert"
        return prove_library(path)

    @classmethod
    def installed_file(cls) -> str:
        return library_path()

    @classmethod
    def trial(cls, path: str) -> str:
        from ..modelfile import ModelFile

        engine = cls(ModelFile(path), 1)
        return engine.run(_TRIAL_PIXELS[engine.input.dtype] * engine.input.size).hex()

    def _load(self, runtime: _Runtime, num_threads: int) -> None:
        self._call = call = runtime.call
        size = len(self._mapping)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(self._mapping))
        model = self._made("Model", "LiteRtCreateModelFromBuffer", runtime.environment, address, size)
        options = self._made("Options", "LiteRtCreateOptions")
        self._check(call("LiteRtSetOptionsHardwareAccelerators", options, _HARDWARE_CPU), "set the accelerator")
        opaque = ctypes.c_void_p()
        # The library frees the payload with the function it is given, so both are the C library's own.
        payload = runtime.strdup(b"num_threads = %d\n" % num_threads)
        self._check(
            call("LiteRtCreateOpaqueOptions", b"xnnpack", payload, runtime.free, ctypes.byref(opaque)),
            "set the number of threads",
        )
        self._check(call("LiteRtAddOpaqueOptions", options, opaque), "set the number of threads")
        self._compiled = self._made("CompiledModel", "LiteRtCreateCompiledModel", runtime.environment, model, options)
        signature = ctypes.c_void_p()
        self._check(call("LiteRtGetModelSignature", model, 0, ctypes.byref(signature)), "read the signature")
        self.input, self._input_memory, self._input_buffer = self._end(signature, "Input")
        self.output, self._output_memory, self._output_buffer = self._end(signature, "Output")
        # The layers may give more than the file states, and the library would write it past the end of our memory.
        real = _Layout()
        self._check(
            call("LiteRtGetCompiledModelOutputTensorLayouts", self._compiled, 0, 1, ctypes.byref(real), True),
            "lay out its output",
        )
        if real.shape != self.output.shape:
            raise ModelFileError(
                f"{self._name}: the model is damaged: it states the output {self.output}, its layers give {real.shape}"
            )

    def _end(self, signature: ctypes.c_void_p, side: str) -> tuple[Tensor, memoryview, ctypes.c_void_p]:
        """One end of the model: its tensor, the memory behind it, and the buffer that the library knows it by."""
        call = self._call
        count, handle, name = ctypes.c_size_t(), ctypes.c_void_p(), ctypes.c_char_p()
        kind, type_id, quantisation = _RankedTensorType(), ctypes.c_int(), _PerTensorQuantisation()
        self._check(call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count)), "read the signature")
        if count.value != 1:
            raise ModelFileError(
                f"{self._name}: its signature has {count.value} {side.lower()}s, an image classifier has one"
            )
        for error in (
            call(f"LiteRtGetSignature{side}TensorByIndex", signature, 0, ctypes.byref(handle)),
            call("LiteRtGetTensorName", handle, ctypes.byref(name)),
            call("LiteRtGetRankedTensorType", handle, ctypes.byref(kind)),
            call("LiteRtGetQuantizationTypeId", handle, ctypes.byref(type_id)),
        ):
            self._check(error, f"read the {side.lower()}")
        if type_id.value == _PER_TENSOR:
            self._check(call("LiteRtGetPerTensorQuantization", handle, ctypes.byref(quantisation)), "read a scale")
        dtype = _DTYPES.get(kind.element_type)
        if dtype is None:
            raise ModelFileError(f"{self._name}: the {side.lower()} has element type {kind.element_type}")
        tensor = Tensor(
            (name.value or b"").decode(), kind.layout.shape, dtype, quantisation.scale, quantisation.zero_point
        )
        raw = (ctypes.c_char * (tensor.nbytes + _ALIGNMENT + _SLACK))()
        start = -ctypes.addressof(raw) % _ALIGNMENT
        memory = memoryview(raw).cast("B")[start : start + tensor.nbytes]
        buffer = self._made(
            "TensorBuffer", "LiteRtCreateTensorBufferFromHostMemory",
            ctypes.byref(kind), ctypes.addressof(raw) + start, tensor.nbytes, None,
        )  # fmt: skip
        return tensor, memory, buffer

    def run(self, pixels: bytes) -> bytes:
        self._input_memory[:] = pixels
        status = self._call(
            "LiteRtRunCompiledModel", self._compiled,
            0, 1, ctypes.byref(self._input_buffer), 1, ctypes.byref(self._output_buffer),
        )  # fmt: skip
        if status:
            raise EngineError(f"litert-c failed: LiteRT status {status}")
        return self._output_memory.tobytes()

    def close(self) -> None:
        # A forked child must not touch what its parent's library made.
        while self._handles and self._pid == os.getpid():
            kind, handle = self._handles.pop()
            self._call("LiteRtDestroy" + kind, handle)

    __del__ = close

    def _made(self, kind: str, function: str, *arguments: object) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._check(self._call(function, *arguments, ctypes.byref(handle)), f"make its {kind}")
        self._handles.append((kind, handle))
        return handle

    def _check(self, status: int, step: str) -> None:
        if status:
            raise ModelFileError(
                f"{self._name}: litert-c cannot load the model: LiteRT status {status} on trying to {step}"
            )


def library_path() -> str:
    """Where ``libLiteRt.so`` is; empty where it is not installed."""
    spec = find_spec("ai_edge_litert")  # a top-level name: nothing is imported
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = os.path.join(folders[0], "libLiteRt.so") if folders else ""
    return path if path and os.path.exists(path) else ""


class _Runtime:
    """The library with its declared functions, and the one environment of a process."""

    def __init__(self) -> None:
        path = library_path()
        try:
            library = ctypes.CDLL(path)
            c_library = ctypes.CDLL(None)
            self._functions = {}
            for name, arguments in (
                *_SIGNATURES.items(),
                *((f"LiteRtDestroy{kind}", (_Handle,)) for kind in _DESTROYERS),
            ):
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int
                self._functions[name] = function
        except (OSError, AttributeError) as error:
            raise EngineError(f"litert-c: cannot use {path}: {error}") from error
        self.strdup, self.free = c_library.strdup, ctypes.cast(c_library.free, ctypes.c_void_p)
        self.strdup.argtypes, self.strdup.restype = (ctypes.c_char_p,), ctypes.c_void_p
        options = (_EnvOption * 2)(
            _EnvOption(_ENV_AUTO_REGISTER_ACCELERATORS, _ANY_INT, _HARDWARE_CPU),
            _EnvOption(_ENV_MIN_LOGGER_SEVERITY, _ANY_INT, _LOG_ERRORS),
        )
        self.environment = ctypes.c_void_p()
        status = self.call("LiteRtCreateEnvironment", len(options), options, ctypes.byref(self.environment))
        if status:
            raise EngineError(f"litert-c: LiteRT status {status} on trying to make its environment")

    def call(self, name: str, *arguments: object) -> int:
        status: int = self._functions[name](*arguments)
        return status


class _Process:
    """What a process makes once; a forked child makes its own and leaves its parent's alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._runtime: _Runtime | None = None

    def runtime(self) -> _Runtime:
        if self._runtime is None:
            self._runtime = _Runtime()
        return self._runtime


_process = _Process()
os.register_at_fork(after_in_child=_process.__init__)  # type: ignore[misc]
