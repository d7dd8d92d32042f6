"""POST /api/webhooks/stripe: a real server, real bytes, signed by Stripe's own library."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from sqlalchemy import text

from notifyctl.billing.processing import ProcessingOptions
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.http.server import create_app
from tests.support.api import serving
from tests.support.clocks import StandingClock
from tests.support.runtimes import MakeRuntime
from tests.support.settings import make_settings
from tests.support.stripe_payloads import NOW, OLD_SECRET, WEBHOOK_SECRET, an_event, an_invoice, event_id, paid, signed
from tests.support.stripe_world import CONFIRMED, alerts, audits, event, mails, statuses

PATH = "/api/webhooks/stripe"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    first = open_runtime(make_settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('app') / 'unused.db'}"))
    yield create_app(first)
    first.close()


@pytest.fixture(scope="module")
def server(app: FastAPI) -> Iterator[str]:
    with serving(app) as url:
        yield url


class Door:
    """Where Stripe delivers."""

    def __init__(self, app: FastAPI, url: str, clock: StandingClock) -> None:
        self._app = app
        self._url = url
        self._clock = clock

    def belongs_to(self, runtime: Runtime) -> None:
        self._app.state.runtime = runtime

    def post(self, body: bytes, headers: dict[str, str] | None = None, **how: Any) -> requests.Response:
        """Signed now, unless `headers` or `how` say otherwise."""
        how.setdefault("at", int(self._clock.now.timestamp()))
        headers = signed(body, **how) if headers is None else headers
        return requests.post(f"{self._url}{PATH}", data=body, headers=headers, timeout=60)


@pytest.fixture
def door(app: FastAPI, server: str, runtime: Runtime, clock: StandingClock) -> Door:
    made = Door(app, server, clock)
    made.belongs_to(runtime)
    return made


def causes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.__dict__["cause"]) for record in caplog.records if "cause" in record.__dict__]


def test_a_signed_event_is_stored_and_mailed(door: Door, runtime: Runtime) -> None:
    raw = paid(an_invoice())
    answer = door.post(raw)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert event(runtime, event_id(raw)).body == raw
    assert mails(runtime) == [CONFIRMED]


@pytest.mark.parametrize("secret", [WEBHOOK_SECRET, OLD_SECRET])
def test_both_secrets_are_good_while_one_is_rolled(door: Door, secret: str) -> None:
    assert door.post(paid(an_invoice()), secret=secret).status_code == 200


def test_one_right_signature_among_several_is_enough(door: Door, clock: StandingClock) -> None:
    raw = paid(an_invoice())
    at = int(clock.now.timestamp())
    new, old = (signed(raw, secret=secret, at=at)["Stripe-Signature"] for secret in ("whsec_other", WEBHOOK_SECRET))
    header = f"{new},{old.partition(',')[2]}"
    assert door.post(raw, {"Stripe-Signature": header}).status_code == 200


def test_spaces_after_the_commas_do_no_harm(door: Door, clock: StandingClock) -> None:
    raw = paid(an_invoice())
    header = signed(raw, at=int(clock.now.timestamp()))["Stripe-Signature"].replace(",", ", ")
    assert door.post(raw, {"Stripe-Signature": header}).status_code == 200


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (None, "no Stripe-Signature header"),
        ("", "no Stripe-Signature header"),
        ("garbage", "has no t= and v1="),
        ("t=1,v0=abc", "has no t= and v1="),
        ("v1=abc", "has no t= and v1="),
        ("t=soon,v1=abc", "has no t= and v1="),
        ("t=" + "9" * 5000 + ",v1=abc", "has no t= and v1="),
        (f"t={NOW},v1=\xe9", "has no t= and v1="),
        ("t=,v1=", "has no t= and v1="),
        (f"t={NOW},v1=abc", "check that STRIPE_WEBHOOK_SECRET is the signing secret"),
        (f"t={NOW},v1", "has no t= and v1="),
    ],
)
def test_a_bad_header_is_refused_and_the_log_says_what_is_wrong(
    door: Door, runtime: Runtime, caplog: pytest.LogCaptureFixture, header: str | None, cause: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="notifyctl.http"):
        answer = door.post(paid(an_invoice()), {} if header is None else {"Stripe-Signature": header})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_signature")
    (said,) = causes(caplog)
    assert cause in said
    assert (statuses(runtime), audits(runtime), alerts(runtime)) == ({}, [], [])


def test_a_body_that_was_changed_or_written_anew_is_refused(door: Door, runtime: Runtime, clock: StandingClock) -> None:
    raw = paid(an_invoice())
    header = signed(raw, at=int(clock.now.timestamp()))
    for other in (raw + b" ", raw.replace(b": ", b":"), raw[:-1]):
        assert door.post(other, header).status_code == 400
    assert statuses(runtime) == {}


def test_the_secret_of_another_endpoint_is_named_as_the_cause_and_never_shown(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    raw = paid(an_invoice())
    with caplog.at_level(logging.DEBUG, logger="notifyctl"):
        answer = door.post(raw, secret="whsec_of_another_endpoint")
    assert answer.status_code == 400
    assert "STRIPE_WEBHOOK_SECRET is the signing secret of this very endpoint" in causes(caplog)[0]
    everything = answer.text + str([record.__dict__ for record in caplog.records])
    for secret in (WEBHOOK_SECRET, OLD_SECRET, "somebody@elsewhere.example", event_id(raw)):
        assert secret not in everything


@pytest.mark.parametrize(("seconds", "status"), [(-300, 200), (300, 200), (-301, 400), (301, 400), (86_400, 400)])
def test_a_signature_is_good_for_five_minutes_either_way(
    door: Door, clock: StandingClock, caplog: pytest.LogCaptureFixture, seconds: int, status: int
) -> None:
    with caplog.at_level(logging.WARNING, logger="notifyctl.http"):
        answer = door.post(paid(an_invoice()), at=int(clock.now.timestamp()) + seconds)
    assert answer.status_code == status
    assert ["check this host's clock" in cause for cause in causes(caplog)] == [True] * (status == 400)


def test_a_stored_event_is_replayed_without_asking_for_the_time_again(
    door: Door, runtime: Runtime, clock: StandingClock
) -> None:
    raw = paid(an_invoice())
    door.post(raw)
    clock.now += timedelta(days=2)
    outcome = runtime.billing.process(event_id(raw), ProcessingOptions("cli", mail_old=False, is_replay=True))
    assert outcome.status == "PROCESSED"


def test_without_a_secret_nothing_is_believed(
    door: Door, make_runtime: MakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    bare = make_runtime(stripe_webhook_secret=" , ")
    door.belongs_to(bare)
    with caplog.at_level(logging.WARNING, logger="notifyctl.http"):
        answer = door.post(paid(an_invoice()), secret="")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert causes(caplog) == ["STRIPE_WEBHOOK_SECRET is not set, so that no signature can be checked"]
    assert statuses(bare) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"not json", b"[]", b"null", b"{}", b"\xef\xbb\xbf{}", b'{"id": "evt_1"}', b'{"type": "invoice.paid"}',
        b'{"id": "evt_\\u0000", "type": "x"}', b"[" * 100_000,
        b'{"id": "evt_1", "type": "x", "created": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_rightly_signed_but_no_event_is_refused(door: Door, runtime: Runtime, body: bytes) -> None:
    answer = door.post(body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (statuses(runtime), alerts(runtime)) == ({}, [])


def test_bytes_that_are_no_text_are_refused(door: Door, runtime: Runtime) -> None:
    assert door.post(b'{"id": "\xff"}', {"Stripe-Signature": f"t={NOW},v1=abc"}).status_code == 400
    assert statuses(runtime) == {}


def test_a_nul_in_a_text_wedges_nothing(door: Door, runtime: Runtime) -> None:
    metadata = {"client_id": "ac\x00me", "note": "a\x00b"}
    for kind, subject in (
        ("invoice.paid", an_invoice(metadata=metadata)),
        ("charge.succeeded", {"id": "ch_\x00", "customer": "\x00"}),
    ):
        assert door.post(an_event(kind, subject, account="")).status_code == 200
    assert statuses(runtime) == {"PROCESSED": 1, "IGNORED": 1}


def test_a_megabyte_is_taken_and_more_is_not(door: Door, runtime: Runtime) -> None:
    for size, status in ((1024 * 1024 - 10_000, 200), (1024 * 1024, 413)):
        assert door.post(an_event("charge.succeeded", {"id": "ch_1", "note": "x" * size})).status_code == status
    assert statuses(runtime) == {"IGNORED": 1}


def test_a_thin_event_is_stored_and_ignored(door: Door, runtime: Runtime) -> None:
    thin = b'{"id": "evt_thin", "object": "v2.core.event", "type": "v2.core.account.updated", "created": "2026-03-02T12:00:00Z", "livemode": true}'  # noqa: E501  as it comes
    assert door.post(thin).status_code == 200
    assert event(runtime, "evt_thin").status == "IGNORED"


def test_a_failure_of_ours_is_no_failure_of_the_delivery(door: Door, runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        session.execute(text("CREATE UNIQUE INDEX ux_of_test ON stripe_invoice (total)"))
    for number in range(2):
        assert door.post(paid(an_invoice(f"in_{number}"))).status_code == 200
    assert statuses(runtime) == {"PROCESSED": 1, "FAILED": 1}


def test_a_database_that_is_away_makes_stripe_deliver_again(door: Door, runtime: Runtime) -> None:
    raw = paid(an_invoice())
    for table in ("stripe_event", "stripe_invoice"):
        with runtime.database.transaction() as session:
            session.execute(text(f"ALTER TABLE {table} RENAME TO hidden"))
        assert door.post(raw).status_code == 503
        with runtime.database.transaction() as session:
            session.execute(text(f"ALTER TABLE hidden RENAME TO {table}"))
    assert mails(runtime) == []
    assert door.post(raw).status_code == 200
    assert mails(runtime) == [CONFIRMED]


def test_strangers_make_no_flood_of_mail(door: Door, runtime: Runtime) -> None:
    for number in range(200):
        assert (
            door.post(f'{{"id": "evt_{number}"}}'.encode(), {"Stripe-Signature": f"t={NOW},v1=00"}).status_code == 400
        )
    assert (alerts(runtime), statuses(runtime), audits(runtime)) == ([], {}, [])
