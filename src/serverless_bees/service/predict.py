"""``/predict``: a picture, a URL, or several of them in; labels and scores out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ServerlessBeesError, UrlNotAllowedError
from ..predictor import is_url
from ..settings import PREFIX, Settings
from .messages import JSON, LengthRequiredError, MediaTypeError, Request, RequestError, TooLargeError, problem, to_json

if TYPE_CHECKING:
    from ..predictor import Prediction
    from .app import Call

Answer = tuple[int, dict[str, str], bytes]

MAX_FORM_FIELD_BYTES = 8192
_SCORE_PLACES = 6


class Item(NamedTuple):
    """One picture of a request, still encoded, or where it is to be had."""

    data: bytes = b""
    url: str = ""


class Query(NamedTuple):
    """What a request asks for; ``many`` where the answer is a list."""

    items: tuple[Item | ServerlessBeesError, ...]
    many: bool = False
    top_k: int | None = None
    min_score: float | None = None


def by_query(call: Call) -> Answer:
    """``GET /predict?url=…``."""
    fields = _query_fields(call.request.query)
    if "url" not in fields:
        raise RequestError("the query has no 'url'; a picture itself is sent with POST")
    return _answer(call, Query((Item(url=fields["url"]),), False, *_options(fields)))


def by_body(call: Call) -> Answer:
    """``POST /predict`` with a picture, JSON or a form as its body."""
    request = call.request
    if not request.body:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            raise LengthRequiredError(
                "the body came in chunks, which this platform drops; send it with a Content-Length"
            )
        raise RequestError("there is no picture: the body is empty")
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise MediaTypeError("no Content-Encoding is supported; send the body as it is")
    kind, parameters = _media_type(request.headers.get("content-type") or "application/octet-stream")
    for pattern, parse in _BODIES.items():
        if kind == pattern or (pattern.endswith("/*") and kind.startswith(pattern[:-1])):
            return _answer(call, parse(request, parameters, call.service.settings))
    raise MediaTypeError(f"the Content-Type {kind!r} is not supported; {', '.join(_BODIES)} are")


def _answer(call: Call, query: Query) -> Answer:
    predictor = call.service.predictor

    def predict(item: Item | ServerlessBeesError) -> Prediction:
        if isinstance(item, ServerlessBeesError):
            raise item
        return predictor.predict(item.data or _checked(item.url), query.top_k, query.min_score, timings=call.timings)

    if not query.many:
        prediction = predict(query.items[0])
        call.facts["label"] = prediction.label
        return 200, {"content-type": JSON}, to_json({**_fields(prediction), "model": predictor.info._asdict()})
    predictions: list[dict[str, Any]] = []
    for item in query.items:
        try:
            predictions.append(_fields(predict(item)))
        except ServerlessBeesError as error:
            document = problem(error)
            if int(str(document["status"])) >= 500:
                raise  # a fault of ours spoils the whole answer, and the platform's alarm is to see it
            predictions.append({"error": document})
    call.facts.update(instances=len(predictions), failed=sum("error" in entry for entry in predictions))
    return 200, {"content-type": JSON}, to_json({"predictions": predictions, "model": predictor.info._asdict()})


def _fields(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "score": round(prediction.score, _SCORE_PLACES),
        "classes": [{"label": entry.label, "score": round(entry.score, _SCORE_PLACES)} for entry in prediction.classes],
    }


def _checked(url: str) -> str:
    # To the Predictor any other text is the path of a file.
    if not is_url(url):
        raise UrlNotAllowedError("a URL must start with https://")
    return url


def _picture(request: Request, parameters: dict[str, str], settings: Settings) -> Query:
    return Query((Item(request.body),), False, *_options(_query_fields(request.query)))


def _json(request: Request, parameters: dict[str, str], settings: Settings) -> Query:
    from .schemas import PredictRequest, decode

    charset = parameters.get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise MediaTypeError(f"the charset {charset!r} is not supported; JSON is UTF-8")
    body = decode(request.body, PredictRequest)
    given = [name for name in ("url", "image", "instances") if getattr(body, name) is not None]
    if len(given) != 1:
        what = " and ".join(map(repr, given)) if given else "none of them"
        raise RequestError(f"exactly one of 'url', 'image' and 'instances' is needed, there is {what}")
    if body.instances is None:
        return Query((_item(body.url, body.image, "image"),), False, body.top_k, body.min_score)
    if len(body.instances) > settings.max_instances:
        raise TooLargeError(
            f"'instances' has {len(body.instances)} pictures, "
            f"the limit is {settings.max_instances} ({PREFIX}MAX_INSTANCES)"
        )
    items: list[Item | ServerlessBeesError] = []
    for position, instance in enumerate(body.instances):
        field = f"instances[{position}]"
        try:
            if (instance.url is None) == (instance.image is None):
                raise RequestError(f"'{field}' needs exactly one of 'url' and 'image'")
            items.append(_item(instance.url, instance.image, f"{field}.image"))
        except RequestError as error:
            items.append(error)
    return Query(tuple(items), True, body.top_k, body.min_score)


def _form(request: Request, parameters: dict[str, str], settings: Settings) -> Query:
    import io

    import multipart

    _, options = multipart.parse_options_header(request.headers["content-type"])  # a boundary may hold a quoted ";"
    boundary = options.get("boundary", "")
    if not boundary:
        raise RequestError("the Content-Type multipart/form-data has no boundary")
    fields: dict[str, bytes] = {}
    try:
        parser = multipart.MultipartParser(
            io.BytesIO(request.body), boundary, content_length=len(request.body),
            # Nothing goes to disk: the body is in memory already, and the platform bounds it.
            spool_limit=len(request.body) + 1, memory_limit=2 * len(request.body) + 1, disk_limit=0,
            part_limit=16, header_limit=8, strict=True,
        )  # fmt: skip
        for part in parser:
            if part.name in fields:
                raise RequestError(f"the form has the field {part.name!r} twice")
            fields[part.name] = part.raw
    except multipart.MultipartError as error:
        raise RequestError(f"the multipart body is broken: {error}") from error
    texts = {name: _form_text(name, value) for name, value in fields.items() if name != "image"}
    unknown = sorted(set(texts) - {"url", "top_k", "min_score"})
    if unknown:
        raise RequestError(f"the form has the unknown field {unknown[0]!r}; there are image, url, top_k and min_score")
    if ("image" in fields) == ("url" in fields):
        raise RequestError("the form needs exactly one of the fields 'image' and 'url'")
    if "image" in fields and not fields["image"]:
        raise RequestError("the form's field 'image' is empty")
    return Query((Item(fields.get("image", b""), texts.get("url", "")),), False, *_options(texts))


# Media type -> what reads such a body.
_BODIES: dict[str, Callable[[Request, dict[str, str], Settings], Query]] = {
    "image/*": _picture,
    "application/octet-stream": _picture,
    "application/json": _json,
    "multipart/form-data": _form,
}


def _item(url: str | None, image: str | None, field: str) -> Item:
    if url is not None:
        return Item(url=url)
    import base64

    text = image or ""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise RequestError(f"'{field}' is a data URL, but not one in base64 (data:image/…;base64,…)")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RequestError(f"'{field}' is not base64: {error}") from error
    if not data:
        raise RequestError(f"'{field}' holds no bytes")
    return Item(data)


def _options(fields: dict[str, str]) -> tuple[int | None, float | None]:
    """``top_k`` and ``min_score`` where they come as text; the same rules as in JSON."""
    given = {name: value for name, value in fields.items() if name in ("top_k", "min_score")}
    if not given:
        return None, None
    from .schemas import PredictRequest, from_text

    options = from_text(given, PredictRequest)
    return options.top_k, options.min_score


def _query_fields(query: str) -> dict[str, str]:
    """The fields of a query that this route knows; others are the platform's or a proxy's business."""
    if not query:
        return {}
    from urllib.parse import parse_qsl

    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError as error:
        raise RequestError(f"the query cannot be read: {error}") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in ("url", "top_k", "min_score"):
            if name in fields:
                raise RequestError(f"the query has {name!r} twice")
            if not value:
                raise RequestError(f"the query's {name!r} has no value")
            fields[name] = value
    return fields


def _form_text(name: str, value: bytes) -> str:
    if len(value) > MAX_FORM_FIELD_BYTES:
        raise TooLargeError(f"the form's field {name!r} has {len(value)} bytes, the limit is {MAX_FORM_FIELD_BYTES}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"the form's field {name!r} is not UTF-8") from error


def _media_type(header: str) -> tuple[str, dict[str, str]]:
    """The media type in lower case, and its parameters (RFC 9110, 8.3.1)."""
    kind, *rest = header.split(";")
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return kind.strip().lower(), parameters
