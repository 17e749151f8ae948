"""Every error that this package raises on purpose.

    ServerlessBeesError
    ├── SettingsError            a SERVERLESS_BEES_* variable or an argument is out of range
    ├── ModelError               the model cannot be used; ``type`` is "model-unavailable"
    │   ├── ModelFileError       missing, unreadable, damaged or not a TFLite file
    │   ├── UnsupportedModelError  sound, but not an image classifier that this package runs
    │   ├── SpecError            the spec is malformed or contradicts the model's tensors
    │   └── EngineError          no engine is installed, or it failed at its work
    ├── OverloadedError          no interpreter came free within the bounded wait
    ├── ImageError
    │   ├── UnsupportedMediaTypeError   not a picture format on the list
    │   ├── InvalidImageError    truncated, broken, or of a kind that would silently lose data
    │   ├── ImageTooLargeError   more pixels than the limit
    │   └── PayloadTooLargeError more bytes than the limit
    └── FetchError
        ├── UrlNotAllowedError   refused before any connection was made
        ├── FetchFailedError     the picture's own server failed
        └── FetchTimeoutError    the picture's own server was too slow

``type`` is the stable name that problem documents (RFC 9457) and the command line's JSON carry.
Messages name what is wrong and, where there is one, the limit; they never hold a secret.
"""

from __future__ import annotations

from typing import ClassVar


class ServerlessBeesError(Exception):
    """Base of every error that this package raises on purpose."""

    type: ClassVar[str] = "internal"


class SettingsError(ServerlessBeesError, ValueError):
    """A setting or an argument is out of its range; the message names it and the range."""

    type = "invalid-request"


class ModelError(ServerlessBeesError):
    """The model cannot be used."""

    type = "model-unavailable"


class ModelFileError(ModelError):
    """The model's file is missing, unreadable, damaged, or not a TFLite flatbuffer."""


class UnsupportedModelError(ModelError):
    """The model is sound, but not one image in and one row of scores out."""


class SpecError(ModelError, ValueError):
    """The model's spec is malformed, or contradicts the model's tensors."""


class EngineError(ModelError):
    """No engine can run here, the one asked for is not installed, or it failed at its work."""


class OverloadedError(ServerlessBeesError):
    """No interpreter came free within the bounded wait (``SERVERLESS_BEES_POOL_WAIT``)."""

    type = "overloaded"


class ImageError(ServerlessBeesError, ValueError):
    """The picture itself is at fault; the same bytes will never work."""


class UnsupportedMediaTypeError(ImageError):
    """Not a picture in one of the formats on the list."""

    type = "unsupported-media-type"


class InvalidImageError(ImageError):
    """A picture that is truncated, broken, or would silently lose data (16-bit grey)."""

    type = "invalid-image"


class ImageTooLargeError(ImageError):
    """The picture has more pixels than the limit; raised before it is decoded."""

    type = "image-too-large"


class PayloadTooLargeError(ImageError):
    """The picture has more bytes than the limit."""

    type = "payload-too-large"


class FetchError(ServerlessBeesError):
    """A picture could not be had from its URL."""


class UrlNotAllowedError(FetchError, ValueError):
    """The URL is refused; no connection was made to the address it stands for."""

    type = "url-not-allowed"


class FetchFailedError(FetchError):
    """The picture's own server could not be reached, or did not answer with a picture."""

    type = "fetch-failed"


class FetchTimeoutError(FetchError):
    """The picture's own server did not deliver within the deadline."""

    type = "fetch-timeout"
