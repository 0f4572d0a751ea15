"""The function's routes as a FastAPI service: what `make bench` measures beside it."""

import asyncio
import json
import os
import uuid
from typing import Any, Optional

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from pydantic import BaseModel, Field, ValidationError

VAULT = os.environ["VAULT_ADDR"] + "/v1/sys/health"
ORY = os.environ["ORY_BASE_URL"] + "/health/ready"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 3, 5, 10)

requests_total = Counter("http_requests_total", "Requests answered.", ["method", "route", "code"])
duration_seconds = Histogram("http_request_duration_seconds", "How long requests took.", ["method", "route"], buckets=BUCKETS)
events_total = Counter("events_total", "Events received.", ["outcome"])

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


class Measured:
    """ASGI middleware that counts and times requests; Starlette's own base class costs twice as much."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"]
        code = 500

        async def noting(message):
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        with duration_seconds.labels(method, path).time():
            await self.app(scope, receive, noting)
        requests_total.labels(method, path, code).inc()


app.add_middleware(Measured)


@app.on_event("startup")
async def open_client():
    app.state.client = httpx.AsyncClient(timeout=2.0)


@app.on_event("shutdown")
async def close_client():
    await app.state.client.aclose()


async def healthy(url: str) -> bool:
    try:
        response = await app.state.client.get(url)
    except httpx.HTTPError:
        return False
    return response.status_code == 200


@app.get("/health/live")
async def live():
    return JSONResponse({"status": "live"})


@app.get("/health/ready")
async def ready():
    vault, ory = await asyncio.gather(healthy(VAULT), healthy(ORY))
    good = vault and ory
    components = {"vault": {"status": "ok" if vault else "unavailable"}, "ory": {"status": "ok" if ory else "unavailable"}}
    return JSONResponse({"status": "ready" if good else "degraded", "components": components}, status_code=200 if good else 503)


class Event(BaseModel):
    specversion: str = Field(regex=r"^1\.0$")
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    datacontenttype: Optional[str]
    data: Any


@app.post("/")
async def receive(request: Request):
    body = await request.body()
    media_type = request.headers.get("content-type", "")
    try:
        if media_type.startswith("application/cloudevents+json"):
            event = Event.parse_raw(body)
        else:
            attributes = {name[3:]: value for name, value in request.headers.items() if name.startswith("ce-")}
            event = Event(**attributes, datacontenttype=media_type, data=json.loads(body))
    except (ValidationError, ValueError):
        events_total.labels("malformed").inc()
        return JSONResponse({"error": "malformed"}, status_code=400)
    events_total.labels("accepted").inc()
    if event.type != "boson.fn":
        return Response(status_code=204)
    reply = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": "//coffeebuddy/fastapi",
        "ce-type": "coffeebuddy.echo",
    }
    return JSONResponse({"message": event.data, "app": "coffeebuddy", "environment": "dev", "version": "bench"}, headers=reply)


# Each worker is a process; prometheus_client adds them up from files.
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)


@app.get("/metrics")
async def metrics():
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
