"""Receiver of webhooks: POST /medbill/webhooks/{platform}/{practice}, mounted into Airflow's API server.

Signature first; 2xx only after the delivery is durable; an answer or a log line has a code and nothing of the delivery.
What is checked and kept is in medbill.platforms.webhooks; this is its edge to HTTP and to Airflow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from medbill.audit.ledger import Ledger, RunContext
from medbill.errors import MedbillError, PlatformError, unexpected
from medbill.platforms import webhooks
from medbill.platforms.webhooks import DeliveryRefused
from medbill.settings import Settings
from medbill.store import db

log = logging.getLogger("medbill.webhooks")

app = FastAPI(title="medbill webhooks", docs_url=None, redoc_url=None, openapi_url=None)

#: Seconds a sender has for a whole body.
_SLOWEST = 10
_STATUS = {"parked": 202}


@app.post("/{platform}/{practice}")
async def receive(platform: str, practice: str, request: Request) -> Response:
    """200 stored, or stored before; 202 stored but of no known type; 401 not proven; 503 send it again."""
    try:
        async with asyncio.timeout(_SLOWEST):
            body = await _body(request)
    except (TimeoutError, ClientDisconnect):
        return _answer(408, "WEBHOOK_SLOW")
    if body is None:
        return _answer(413, "WEBHOOK_TOO_LARGE")
    return await run_in_threadpool(_receive, platform, practice, dict(request.headers), body)


@app.get("/{platform}/{practice}")
def challenge(platform: str, practice: str, msg: str = "") -> Response:
    """DrChrono asks whether we know the secret before it sends anything."""
    try:
        return JSONResponse({"secret_token": webhooks.answer_challenge(_secrets(platform, practice), msg)})
    except (DeliveryRefused, PlatformError):
        return _answer(404, "WEBHOOK_CHALLENGE")
    except Exception as error:
        return _later(error)


async def _body(request: Request) -> bytes | None:
    """None where it is too large, whatever its header says."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > webhooks.MAX_BYTES:
            return None
    return bytes(body)


def _receive(platform: str, practice: str, headers: Mapping[str, str], body: bytes) -> Response:
    now = datetime.now(UTC)
    try:
        try:
            delivery = webhooks.verify(headers, body, _secrets(platform, practice), now)
        except (DeliveryRefused, PlatformError) as error:
            return _refuse(platform, practice, error.code, now)
        engine, ledger = _store()
        accepted = webhooks.accept(engine, ledger, practice, platform, delivery, body)
    except Exception as error:
        return _later(error)
    if accepted.wakes:
        _wake(platform)
    return _answer(_STATUS.get(accepted.status, 200), accepted.status)


def _refuse(platform: str, practice: str, code: str, now: datetime) -> Response:
    known = _is_known(platform, practice)
    try:
        webhooks.refused(_store()[1], practice if known else "-", platform if known else "-", code, now)
    except MedbillError as error:
        log.error("%s: a refused delivery is not in the ledger", error.code)
    return _answer(401, "WEBHOOK_REFUSED")  # one word for all: who asks learns nothing about practices and secrets


def _later(error: Exception) -> Response:
    code = error.code if isinstance(error, MedbillError) else str(unexpected(error))
    log.error("%s: a delivery was not taken", code)
    return _answer(503, "WEBHOOK_LATER", {"Retry-After": "60"})


def _answer(status: int, word: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": word}, status, dict(headers or {}))


def _is_known(platform: str, practice: str) -> bool:
    return any((p.id, p.platform) == (practice, platform) for p in Settings.from_env().practices())


def _secrets(platform: str, practice: str) -> webhooks.Secrets:
    """From the Airflow connection <platform>_<practice>. Raises PlatformError WEBHOOK_NOT_CONFIGURED."""
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models.connection import Connection

    extra: Mapping[str, Any] = {}
    if _is_known(platform, practice):
        with suppress(AirflowNotFoundException):
            extra = Connection.get_connection_from_secrets(f"{platform}_{practice}").extra_dejson
    return webhooks.Secrets.of(extra)


@lru_cache(maxsize=1)
def _store() -> tuple[Any, Ledger]:
    engine = db.engine(Settings.from_env().database_url)
    return engine, Ledger(engine, RunContext(service="webhooks"))


def _wake(platform: str) -> None:
    """An event of the asset extract_<platform> waits for. Where that fails, the hourly run finds the delivery."""
    try:
        from airflow.assets.manager import asset_manager
        from airflow.models.asset import AssetModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            uri = f"file://medbill/webhooks/{platform}"
            for asset in session.scalars(select(AssetModel).where(AssetModel.uri == uri)):
                asset_manager.register_asset_change(asset=asset, session=session)
    except Exception as error:
        log.error("%s: nobody was woken; the next run on schedule takes it", unexpected(error))
