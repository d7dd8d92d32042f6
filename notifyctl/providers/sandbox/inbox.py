"""What arrived, as pages for people and as JSON for tests."""

import base64
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifyctl.clock import Clock
from notifyctl.models.template import Channel
from notifyctl.providers.sandbox import magic
from notifyctl.providers.sandbox.arrivals import Address, Arrival, Mail, Stage, stage
from notifyctl.providers.sandbox.json_answer import answer
from notifyctl.providers.sandbox.outcomes import MAGIC_RECIPIENTS
from notifyctl.providers.sandbox.state import State
from notifyctl.providers.segments import measure

PAGE_LENGTH = 50
JSON_LIMIT = 100
# Reloads the list when something arrived or was refused, but not under the hands of someone who is typing a filter.
REFRESH = """
let seen = null;
setInterval(async () => {
  const answer = await fetch("/inbox/count.json");
  const { EMAIL, SMS, calls } = await answer.json();
  const now = [EMAIL, SMS, calls].join(":");
  if (seen !== null && seen !== now && document.activeElement.tagName !== "INPUT") location.reload();
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
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Inbox:
    def __init__(self, state: State) -> None:
        self._state = state
        self._arrivals = state.arrivals
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
            Route("/inbox.json", self._list_json, methods=["GET"]),
            Route("/inbox/count.json", self._count, methods=["GET"]),
            Route("/inbox/{arrival_id}", self._show, methods=["GET"]),
            Route("/inbox", self._clear, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        channel = _channel(request)
        contains = request.query_params.get("to", "").strip()
        found = [
            arrival
            for arrival in self._arrivals.newest_first()
            if (channel is None or arrival.channel is channel) and _is_for(arrival, contains.lower())
        ]
        number = _whole_number(request, "page", 1)
        start = (number - 1) * PAGE_LENGTH
        return self._page(
            "list.html",
            arrivals=found[start : start + PAGE_LENGTH],
            channel=channel,
            to=contains,
            number=number,
            has_older=len(found) > start + PAGE_LENGTH,
            counts=self._arrivals.counts,
            base_url=str(request.base_url).rstrip("/"),
            magic_recipients=MAGIC_RECIPIENTS,
            magic_faults=magic.HELP,
            on_times=magic.HELP_ON_TIMES,
            **self._bar(),
            refresh=Markup(REFRESH),  # noqa: S704
            today=self._clock().date(),
        )

    def _bar(self) -> dict[str, Any]:
        """What the list tells above the messages: the meter, the faults in force, the receipts."""
        outcomes, receipts = self._state.outcomes, self._state.receipts
        struck = {channel: outcomes.struck(channel) for channel in Channel}
        faults = {channel: found for channel in Channel if (found := outcomes.faults(channel))}
        return {
            "meter": self._state.meter_json(),
            "faults": faults,
            "struck": struck,
            "search_delay": self._arrivals.search_delay,
            "receipts": receipts.receipts,
            "receipt_counts": receipts.counts,
        }

    async def _show(self, request: Request) -> Response:
        arrival = self._arrivals.get(request.path_params["arrival_id"])
        if arrival is None:
            return self._page("missing.html", status=404)
        status = _status(arrival, stage(arrival, self._clock()))
        if isinstance(arrival, Mail):
            return self._show_mail(arrival, status, request.query_params.get("tab", ""))
        return self._page("sms.html", sms=arrival, stage=status, size=measure(arrival.text))

    def _show_mail(self, mail: Mail, status: str, wanted_tab: str) -> Response:
        parts = {"html": "HTML", "text": "Text", "headers": "Headers and metadata"}
        tabs = {tab: label for tab, label in parts.items() if tab == "headers" or getattr(mail, tab)}
        tab = wanted_tab if wanted_tab in tabs else next(iter(tabs))
        return self._page("mail.html", mail=mail, stage=status, tabs=tabs, tab=tab, framed=_framed(mail.html))

    async def _list_json(self, request: Request) -> Response:
        channel = _channel(request)
        arrivals = [
            arrival
            for arrival in self._arrivals.newest_first(to=request.query_params.get("to"))
            if channel is None or arrival.channel is channel
        ]
        return answer([_as_json(arrival) for arrival in arrivals[: _whole_number(request, "limit", JSON_LIMIT)]])

    async def _count(self, request: Request) -> Response:
        return answer({**self._arrivals.counts, "calls": self._arrivals.calls})

    async def _clear(self, request: Request) -> Response:
        self._state.clear()
        return Response(status_code=204)

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        html = self._pages.get_template(name).render(**values)
        return Response(html.encode("utf-8", "replace"), status, _PAGE_HEADERS, "text/html")


def _status(arrival: Arrival, reached: Stage) -> str:
    if reached is Stage.DELIVERED and arrival.bounce:
        return f"Bounced ({arrival.bounce})"
    return reached.name.capitalize()


def _channel(request: Request) -> Channel | None:
    wanted = request.query_params.get("channel", "").upper()
    return Channel(wanted) if wanted in Channel.__members__ else None


def _whole_number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and 0 < len(value) < 10 and int(value) else default


def _is_for(arrival: Arrival, contains: str) -> bool:
    return not contains or any(contains in recipient.lower() for recipient in arrival.recipients)


def _framed(html: str) -> str:
    """Opens links beside the page, since the frame may not navigate it."""
    target = '<base target="_blank">'
    head = html.lower().find("<head>")
    return html[: head + 6] + target + html[head + 6 :] if head >= 0 else target + html


def _as_json(arrival: Arrival) -> dict[str, Any]:
    common = {
        "id": arrival.id,
        "channel": arrival.channel,
        "received_at": _zulu(arrival.received_at),
        "to": _emails(arrival.to) if isinstance(arrival, Mail) else [arrival.to],
        "text": arrival.text,
    }
    if not isinstance(arrival, Mail):
        return common | {
            "from": arrival.sender,
            "messaging_service_sid": arrival.messaging_service_sid,
            "account_sid": arrival.account_sid,
            "status_callback": arrival.status_callback,
        }
    return common | {
        "from": str(arrival.sender),
        "cc": _emails(arrival.cc),
        "bcc": _emails(arrival.bcc),
        "reply_to": arrival.reply_to,
        "subject": arrival.subject,
        "html": arrival.html,
        "tag": arrival.tag,
        "stream": arrival.stream,
        "metadata": arrival.metadata,
        "headers": [{"name": name, "value": value} for name, value in arrival.headers],
        "attachments": list(arrival.attachments),
    }


def _emails(addresses: tuple[Address, ...]) -> list[str]:
    return [address.email for address in addresses]


def _zulu(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
