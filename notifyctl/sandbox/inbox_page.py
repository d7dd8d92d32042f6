"""What arrived, as pages for people and as JSON for tests."""

import base64
import hashlib
import json
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.errors import InvalidInput
from notifyctl.models.enums import Channel
from notifyctl.sandbox.control_api import json_answer
from notifyctl.sandbox.faults.errors import APIS
from notifyctl.sandbox.faults.faults import Faults, faults_from_lines
from notifyctl.sandbox.faults.magic import MAGIC_RECIPIENTS
from notifyctl.sandbox.inbox_store import Address, Email, InboxMessage, Stage, stage
from notifyctl.sandbox.state import SandboxState
from notifyctl.text.sms_segments import measure

PAGE_LENGTH = 50
JSON_LIMIT = 100
# Reloads the list when something arrived or was refused, but not under the hands of someone who is typing a filter.
REFRESH = """
let seen = null;
setInterval(async () => {
  const answer = await fetch("/inbox/count.json");
  const { EMAIL, SMS, calls } = await answer.json();
  const now = [EMAIL, SMS, calls].join(":");
  const isTyping = ["INPUT", "TEXTAREA"].includes(document.activeElement.tagName);
  if (seen !== null && seen !== now && !isTyping) location.reload();
  seen = now;
}, 1500);
"""
_REFRESH_HASH = base64.b64encode(hashlib.sha256(REFRESH.encode()).digest()).decode()
# The mail's frame inherits this policy: its inline styles work, scripts and anything remote do not.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    f"script-src 'sha256-{_REFRESH_HASH}'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, a browser names the origin of our own forms as "null".
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class InboxPage:
    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._inbox = state.inbox
        self._clock: Clock = lambda: state.clock()  # it may be set anew
        self._pages = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def routes(self) -> list[Route]:
        return [
            Route("/", self._list, methods=["GET"]),
            Route("/faults", self._set_faults, methods=["POST"]),
            Route("/inbox.json", self._list_json, methods=["GET"]),
            Route("/inbox/count.json", self._count, methods=["GET"]),
            Route("/inbox/{message_id}", self._show, methods=["GET"]),
            Route("/inbox", self._clear, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        return self._shown(request)

    async def _set_faults(self, request: Request) -> Response:
        """A form of this page: another site's could otherwise set them for whoever looks at it."""
        if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
            return self._page("missing.html", status=403)
        fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        lines = fields.get("lines", "") if fields.get("do") == "set" else ""
        try:
            by_api = faults_from_lines([line.strip() for line in lines.splitlines() if line.strip()])
        except InvalidInput as error:
            return self._shown(request, lines=lines, wrong=str(error))
        for api in APIS:
            self._state.faults.set_faults(api, by_api.get(api, Faults(seed=0)))
        return RedirectResponse("/#faults", 303)

    def _shown(self, request: Request, *, lines: str | None = None, wrong: str = "") -> Response:
        channel = _channel(request)
        contains = request.query_params.get("to", "").strip()
        words = request.query_params.get("q", "").strip()
        messages = [
            message
            for message in self._inbox.newest_first()
            if (channel is None or message.channel is channel)
            and _is_for(message, contains.lower())
            and _says(message, words.lower())
        ]
        number = _whole_number(request, "page", 1)
        start = (number - 1) * PAGE_LENGTH
        schedules = {api: schedule for api in APIS if (schedule := self._state.faults.schedule(api))}
        set_lines = [
            f"{api.lower()}:{fault}" for api, schedule in schedules.items() for fault in schedule.faults.faults
        ]
        return self._page(
            "list.html",
            400 if wrong else 200,
            q=words,
            lines="\n".join(set_lines) if lines is None else lines,
            wrong=wrong,
            messages=messages[start : start + PAGE_LENGTH],
            channel=channel,
            to=contains,
            number=number,
            has_older=len(messages) > start + PAGE_LENGTH,
            counts=self._inbox.counts,
            base_url=str(request.base_url).rstrip("/"),
            magic_recipients=MAGIC_RECIPIENTS,
            meter=self._state.meter_json(),
            schedules=schedules,
            search_delay=self._inbox.search_delay,
            receipts=self._state.receipts.receipts,
            receipt_counts=self._state.receipts.counts,
            refresh=Markup(REFRESH),  # noqa: S704  our own constant
            today=self._clock().date(),
        )

    async def _show(self, request: Request) -> Response:
        message = self._inbox.get(request.path_params["message_id"])
        if message is None:
            return self._page("missing.html", status=404)
        status = _status(message, stage(message, self._clock()))
        if isinstance(message, Email):
            return self._show_email(message, status, request.query_params.get("tab", ""))
        size = measure(message.text)
        return self._page("sms.html", sms=message, stage=status, size=size, source=_source(message))

    def _show_email(self, email: Email, status: str, wanted_tab: str) -> Response:
        parts = {"html": "HTML", "text": "Text", "headers": "Headers and metadata", "source": "Source"}
        tabs = {tab: label for tab, label in parts.items() if tab in ("headers", "source") or getattr(email, tab)}
        tab = wanted_tab if wanted_tab in tabs else next(iter(tabs))
        return self._page(
            "mail.html", mail=email, stage=status, tabs=tabs, tab=tab, framed=_framed(email.html), source=_source(email)
        )

    async def _list_json(self, request: Request) -> Response:
        channel = _channel(request)
        messages = [
            message
            for message in self._inbox.newest_first(to=request.query_params.get("to"))
            if channel is None or message.channel is channel
        ]
        return json_answer([_as_json(message) for message in messages[: _whole_number(request, "limit", JSON_LIMIT)]])

    async def _count(self, request: Request) -> Response:
        counts: dict[str, int] = {channel: count for channel, count in self._inbox.counts.items()}
        return json_answer(counts | {"calls": self._inbox.calls})

    async def _clear(self, request: Request) -> Response:
        self._state.clear()
        return Response(status_code=204)

    def _page(self, name: str, status: int = 200, **values: object) -> Response:
        html = self._pages.get_template(name).render(**values)
        return Response(html.encode("utf-8", "replace"), status, _PAGE_HEADERS, "text/html")


def _status(message: InboxMessage, reached: Stage) -> str:
    if reached is Stage.DELIVERED and message.bounce:
        return f"Bounced ({message.bounce})"
    return reached.name.capitalize()


def _channel(request: Request) -> Channel | None:
    channel = request.query_params.get("channel", "").upper()
    return Channel(channel) if channel in Channel.__members__ else None


def _whole_number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and 0 < len(value) < 10 and int(value) else default


def _is_for(message: InboxMessage, contains: str) -> bool:
    return not contains or any(contains in recipient.lower() for recipient in message.recipients)


def _says(message: InboxMessage, words: str) -> bool:
    parts = [*message.recipients, message.text, message.subject if isinstance(message, Email) else ""]
    return not words or any(words in part.lower() for part in parts)


def _source(message: InboxMessage) -> str:
    """All that arrived, as JSON: there is no other form of it."""
    return json.dumps(_as_json(message), indent=2, ensure_ascii=False)


def _framed(html: str) -> str:
    """Opens links beside the page, since the frame may not navigate it."""
    target = '<base target="_blank">'
    head = html.lower().find("<head>")
    return html[: head + 6] + target + html[head + 6 :] if head >= 0 else target + html


def _as_json(message: InboxMessage) -> dict[str, object]:
    common: dict[str, object] = {
        "id": message.id,
        "channel": message.channel,
        "received_at": message.received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "to": _emails(message.to) if isinstance(message, Email) else [message.to],
        "text": message.text,
    }
    if not isinstance(message, Email):
        return common | {
            "from": message.sender,
            "messaging_service_sid": message.messaging_service_sid,
            "account_sid": message.account_sid,
            "status_callback": message.status_callback,
        }
    return common | {
        "from": str(message.sender),
        "cc": _emails(message.cc),
        "bcc": _emails(message.bcc),
        "reply_to": message.reply_to,
        "subject": message.subject,
        "html": message.html,
        "tag": message.tag,
        "stream": message.stream,
        "metadata": message.metadata,
        "headers": [{"name": name, "value": value} for name, value in message.headers],
        "attachments": list(message.attachments),
    }


def _emails(addresses: tuple[Address, ...]) -> list[str]:
    return [address.email for address in addresses]
