"""Who and what the demo sends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from notifyctl.orchestrator.requests import SendRequest

CLIENTS = """\
id,name,email,phone,plan,provisioning_status,subscription_status,sms_enabled,timezone
acme,Acme GmbH,ops@acme.example,+4915112345678,PRO,COMPLETED,active,yes,Europe/Berlin
beacon,Beacon Ltd,hello@beacon.example,+447700900123,SOLO,COMPLETED,active,yes,Europe/London
cedar,Cedar Inc,team@cedar.example,+12025550143,PRO,PENDING,trialing,yes,America/New_York
dune,Dune SARL,bonjour@dune.example,,PRO,IN_PROGRESS,none,no,Europe/Paris
elm,Elm Oy,terve@elm.example,+358401234567,PRO,FAILED,canceled,yes,Europe/Helsinki
fjord,Fjord AS,busy-1@fjord.example,+4740123456,SOLO,COMPLETED,past_due,no,Europe/Oslo
grove,Grove BV,inactive@grove.example,+31612345678,PRO,COMPLETED,active,no,Europe/Amsterdam
harbor,Harbor Co,,,SOLO,COMPLETED,active,no,UTC
"""
"""Both plans and all provisioning states. fjord's mailbox fails once, and grove's is inactive, in the sandbox."""


@dataclass(frozen=True, slots=True)
class Case:
    what: str
    request: SendRequest


@dataclass(frozen=True, slots=True)
class CodeCase:
    """Codes have a way of their own."""

    what: str
    number: str


def case(
    what: str,
    template: str,
    client: str | None,
    context: Mapping[str, object],
    *,
    recipient: str | None = None,
    idempotency_key: str | None = None,
) -> Case:
    request = SendRequest(
        template_key=template,
        client_id=client,
        recipient=recipient,
        context=context,
        idempotency_key=idempotency_key,
        source="demo",
    )
    return Case(what, request)


def welcome(what: str, client: str) -> Case:
    context = {"client_name": client.capitalize(), "login_url": f"https://cloud.example/{client}"}
    return case(what, "WELCOME_EMAIL", client, context)


def reminder(what: str, template: str, client: str, reference: str = "TL-20") -> Case:
    context: dict[str, object] = {
        "item_name": "Trade licence",
        "item_reference": reference,
        "expires_on": "2027-01-15",
        "days_left": 30,
    }
    if template == "COMPLIANCE_EXPIRY_REMINDER":
        context |= {"client_name": client.capitalize(), "renew_url": "https://cloud.example/renew/TL-20"}
    return case(what, template, client, context)


def accepted() -> Iterator[Case | CodeCase]:
    reset = {"client_name": "Acme", "reset_url": "https://cloud.example/reset/x", "valid_minutes": 60}
    yield welcome("a new client is ready", "acme")
    yield case("a password link", "PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield case("the caller tries it twice", "PASSWORD_RESET", "acme", reset, idempotency_key="reset-1")
    yield CodeCase("a one-time code", "+4915112345678")
    yield reminder("a reminder, plan PRO", "COMPLIANCE_EXPIRY_REMINDER_SMS", "acme")
    yield reminder("to a busy mailbox", "COMPLIANCE_EXPIRY_REMINDER", "fjord")
    yield reminder("to a dead mailbox", "COMPLIANCE_EXPIRY_REMINDER", "grove")


def refused() -> Iterator[Case | CodeCase]:
    """In the scenario of the gates, but for SUPPRESSED: nobody is, before the first delivery."""
    alert = {"summary": "Email is failing"}
    yield case("a template switched off", "OPS_ALERT_SMS", None, alert, recipient="+12025550143")
    yield case("a billing mail, not from Stripe", "PAYMENT_FAILED", "acme", {})
    yield welcome("a client nobody knows", "zenith")
    yield case("a variable is missing", "PASSWORD_RESET", "beacon", {"client_name": "Beacon"})
    yield welcome("a client without an address", "harbor")
    yield CodeCase("a premium-rate number", "+499001234567")
    yield CodeCase("a country not served", "+33612345678")
    yield reminder("no consent to SMS", "COMPLIANCE_EXPIRY_REMINDER_SMS", "grove")
    yield welcome("not provisioned yet", "cedar")
    yield reminder("subscription ended", "COMPLIANCE_EXPIRY_REMINDER", "elm")
    yield reminder("a reminder, plan SOLO", "COMPLIANCE_EXPIRY_REMINDER_SMS", "beacon")
    yield welcome("a second welcome", "acme")


def backlog() -> Iterator[Case]:
    """More reminders than a minute takes, and behind them a password link."""
    for number in range(40):
        yield reminder("a reminder", "COMPLIANCE_EXPIRY_REMINDER", "beacon", f"TL-{number:03}")


def urgent() -> Case:
    reset = {"client_name": "Beacon", "reset_url": "https://cloud.example/reset/y", "valid_minutes": 60}
    return case("then a password link", "PASSWORD_RESET", "beacon", reset)
