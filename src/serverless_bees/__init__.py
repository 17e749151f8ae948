"""Hosts a TensorFlow Lite image classifier on AWS Lambda, Azure Functions and Google Cloud Functions.

Importing this package imports neither NumPy nor Pillow nor a runtime: public names load on first use (PEP 562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from .errors import (
        EngineError,
        FetchError,
        FetchFailedError,
        FetchTimeoutError,
        ImageError,
        ImageTooLargeError,
        InvalidImageError,
        ModelError,
        ModelFileError,
        OverloadedError,
        PayloadTooLargeError,
        ServerlessBeesError,
        SettingsError,
        SpecError,
        UnsupportedMediaTypeError,
        UnsupportedModelError,
        UrlNotAllowedError,
    )
    from .images import download_image, prepare_image, preprocess_image
    from .predictor import ClassScore, ModelInfo, Prediction, Predictor, default_model, load_lite_model
    from .settings import Settings
    from .spec import AssumedSpecWarning, Spec

__version__ = "0.1.0"

__all__ = [
    "AssumedSpecWarning",
    "ClassScore",
    "EngineError",
    "FetchError",
    "FetchFailedError",
    "FetchTimeoutError",
    "ImageError",
    "ImageTooLargeError",
    "InvalidImageError",
    "ModelError",
    "ModelFileError",
    "ModelInfo",
    "OverloadedError",
    "PayloadTooLargeError",
    "Prediction",
    "Predictor",
    "ServerlessBeesError",
    "Settings",
    "SettingsError",
    "Spec",
    "SpecError",
    "UnsupportedMediaTypeError",
    "UnsupportedModelError",
    "UrlNotAllowedError",
    "__version__",
    "default_model",
    "download_image",
    "load_lite_model",
    "prepare_image",
    "preprocess_image",
]

_MODULES = {
    "images": ("download_image", "prepare_image", "preprocess_image"),
    "predictor": ("ClassScore", "ModelInfo", "Prediction", "Predictor", "default_model", "load_lite_model"),
    "settings": ("Settings",),
    "spec": ("AssumedSpecWarning", "Spec"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module("." + module, __name__), name)
    if name in __all__:
        return getattr(import_module(".errors", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
