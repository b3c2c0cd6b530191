"""Runs inside mitmdump: applies the fault of the control file and logs each attempt (see proxy.py)."""

import asyncio
import json
import os

from mitmproxy import http

CONTROL = os.environ["PROXY_CONTROL"]
REQUESTS = open(os.environ["PROXY_REQUESTS"], "a", buffering=1)


def fault_of(flow: http.HTTPFlow) -> str:
    with open(CONTROL) as control:
        fault = json.load(control)
    fits = fault["method"] in ("", flow.request.method) and fault["key"] in flow.request.path
    return fault["mode"] if fits else "pass"


def log(flow: http.HTTPFlow, status: str) -> None:
    REQUESTS.write(f"{flow.request.method} {flow.request.path} {status}\n")


async def request(flow: http.HTTPFlow) -> None:
    mode = fault_of(flow)
    if mode == "503":
        body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please slow down</Message></Error>"
        flow.response = http.Response.make(503, body, {"content-type": "application/xml"})
    if mode == "no_bucket":
        body = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>No such bucket</Message></Error>"
        flow.response = http.Response.make(404, body, {"content-type": "application/xml"})
    while fault_of(flow) == "stall":
        await asyncio.sleep(0.05)


def response(flow: http.HTTPFlow) -> None:
    if fault_of(flow) == "lose_reply":
        log(flow, "lost")
        flow.kill()
    else:
        log(flow, str(flow.response.status_code))


def error(flow: http.HTTPFlow) -> None:
    # The agent gave up on the attempt, or the store is gone: an attempt all the same.
    if flow.response is None:
        log(flow, "broken")
