"""The providers' webhooks called by hand, with their documented payloads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests
from fastapi import FastAPI

from notifyctl.bootstrap import Runtime
from notifyctl.sandbox.receipts.payloads import twilio_signature
from tests.support.api import Api
from tests.support.receipts import rows
from tests.support.runtimes import open_shared
from tests.support.settings import make_settings
from tests.support.templates import seed_templates

PAYLOADS = Path(__file__).resolve().parent / "payloads"
POSTMARK = "/api/webhooks/postmark"
STATUS = "/api/webhooks/twilio/status"
INBOUND = "/api/webhooks/twilio/inbound"
TOKEN = "w3bh00k-tökén"
AUTH_TOKEN = "sandbox-token"
PLENTY = 10_000


def open_for_webhooks(database_url: str, url: str, **more: Any) -> Runtime:
    """With all that a webhook needs; `url` is where the server answers."""
    values = {
        "database_url": database_url,
        "postmark_webhook_token": TOKEN,
        "public_base_url": url,
        "notification_email_per_minute_limit": PLENTY,
        "notification_sms_per_minute_limit": PLENTY,
    }
    opened = open_shared(make_settings(**values | more))
    seed_templates(opened)
    return opened


@contextmanager
def settings_changed(api: Api, app: FastAPI, **changed: Any) -> Iterator[None]:
    """The server with other settings, on the same database unless that is what changes."""
    before = api.runtime
    values = {name: getattr(before.settings, name) for name in before.settings.model_fields_set}
    other = open_shared(make_settings(**values | changed))
    app.state.runtime = other
    yield
    app.state.runtime = before
    other.close()


def payload(name: str, **changed: Any) -> dict[str, Any]:
    return json.loads((PAYLOADS / f"{name}.json").read_text()) | changed


def of_message(message_id: str) -> dict[str, Any]:
    """What makes a payload of Postmark's one about this message, as `receipting` puts it."""
    return {"Metadata": {"message_id": message_id}, "MessageID": f"pm-{message_id}"}


def post_postmark(api: Api, body: Any, **more: Any) -> requests.Response:
    more.setdefault("headers", {"X-Postmark-Token": TOKEN.encode()})
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.post(POSTMARK, data=data, **more)


def post_twilio(
    api: Api, path: str, fields: dict[str, str], *, token: str = AUTH_TOKEN, **headers: Any
) -> requests.Response:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signature = {"X-Twilio-Signature": twilio_signature(token, api.url + path, fields)}
    return api.post(path, data=urlencode(fields), headers=form | signature | headers)


def everything(runtime: Runtime) -> list[Any]:
    """All that a webhook could have written to."""
    return [rows(runtime, name) for name in ("message_log", "audit_log", "suppression", "early_receipt", "seen_event")]
