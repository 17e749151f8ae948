"""Local emulators of the three clouds: real components where there are any, and the rest said to be imitated."""

from __future__ import annotations

from importlib import import_module

from .base import Emulator

# Provider -> the module below this package and its class.
_CLASSES = {"aws": ("aws", "AwsEmulator"), "azure": ("azure", "AzureEmulator"), "gcp": ("gcp", "GcpEmulator")}
PROVIDERS = tuple(_CLASSES)


def emulator_class(provider: str) -> type[Emulator]:
    """The emulator of a provider."""
    module, name = _CLASSES[provider]
    found: type[Emulator] = getattr(import_module("." + module, __name__), name)
    return found
