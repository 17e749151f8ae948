"""A function with faults: its path says which."""

import os
import time

import flask
import functions_framework


@functions_framework.http
def predict(request: flask.Request) -> flask.typing.ResponseReturnValue:
    if request.path == "/raise":
        raise RuntimeError("a secret: swordfish")
    if request.path == "/exit":
        os._exit(1)
    if request.path == "/sleep":
        for _ in range(200):
            time.sleep(0.1)
    return "well", 200
