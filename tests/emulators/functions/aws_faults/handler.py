"""A function that goes wrong in the way that the path asks for."""

import os
import time
from typing import Any


def handler(event: Any, context: Any) -> Any:
    path = event["rawPath"] if "rawPath" in event else event["path"]
    if path == "/raise":
        raise RuntimeError("something went wrong")
    if path == "/crash":
        os._exit(1)
    if path == "/sleep":
        time.sleep(30)
    if path == "/large":
        return {"statusCode": 200, "body": "x" * (6 << 20)}
    if path == "/malformed":
        return {"statusCode": "no number"}
    if path == "/not-base64":
        return {"statusCode": 200, "body": "?", "isBase64Encoded": True}
    if path == "/nothing":
        return None
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "fine"}
