"""Every refusal has one shape, repeats nothing, and is no 500."""

import gzip
import json
import logging
import socket
from collections.abc import Iterator
from time import monotonic, sleep
from urllib.parse import urlsplit

import pytest
import requests
from fastapi import FastAPI

from notifyctl.bootstrap import open_runtime
from notifyctl.http.middleware import BODY_BYTES, DEFAULT_BODY_BYTES
from notifyctl.http.server import create_app
from notifyctl.models.enums import Scope
from tests.support.api import Api, serving
from tests.support.settings import make_settings

SEND = "/api/notifications"
JSON = {"Content-Type": "application/json"}
CANARY = "c4n4ry-Value"


def _is_shaped(answer: requests.Response) -> bool:
    body = answer.json()
    return set(body) == {"error", "message"} and all(isinstance(value, str) and value for value in body.values())


MALFORMED = [
    b"",
    b"{",
    b"\x00",
    b"null",
    b"[]",
    b'"text"',
    b"17",
    b"\xff\xfe{\x00}\x00",
    b'\xef\xbb\xbf{"template_key": "A"}',
    b'{"template_key": "\xff"}',
    b'{"template_key": NaN}',
    b'{"template_key": "A", "context": {"a": 1e999}}',
    b'{"template_key": "A", "context": {"a": -Infinity}}',
    b'{"template_key": "A", "context": {"a": ' + b"9" * 5_000 + b"}}",
    b'{"template_key": "A", "template_key": "B", "client_id": "a"}',
    b'{"template_key": "A", "client_id": "a", "context": {"a": 1, "a": 2}}',
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b'{"template_key": "A", "client_id": "a", "context": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}",
    b'{"template_key": "A\\u0000", "client_id": "a"}',
    b'{"template_key": "A\\ud800", "client_id": "a"}',
    b'{"template_key": "A", "client_id": "a", "\\ud800": 1}',
    b'{"template_key": "A", "client_id": "a", "context": []}',
    b'{"template_key": "A", "client_id": "a", "context": null}',
    b'{"template_key": "A"}',
    b'{"template_key": "A", "client_id": "a", "recipient": "a@b.example"}',
    b'{"template_key": 1, "client_id": "a"}',
    b'{"template_key": "A", "client_id": ["a"]}',
    b'{"template_key": "A", "client_id": "a", "source": "stripe"}',
    b'{"template_key": "A", "client_id": "a", "idempotency_key": ""}',
    b'{"template_key": "A", "client_id": "a", "idempotency_key": true}',
    json.dumps({"template_key": "A" * 129, "client_id": "a"}).encode(),
    json.dumps({"template_key": "A", "recipient": "a" * 1_001}).encode(),
    json.dumps({"template_key": "A", "client_id": "a", **{f"f{number}": 1 for number in range(500)}}).encode(),
]


def test_a_body_that_is_no_message_is_422(api: Api, sender: str) -> None:
    answers = {body[:80]: api.post(SEND, sender, data=body, headers=JSON) for body in MALFORMED}

    assert len(answers) == len(MALFORMED)
    assert {body: answer.text for body, answer in answers.items() if answer.status_code != 422} == {}
    assert all(map(_is_shaped, answers.values()))
    assert max(len(answer.content) for answer in answers.values()) < 1_000


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", "application/json\xe9"],
)
def test_a_body_that_is_not_sent_as_json_is_422(api: Api, sender: str, content_type: str) -> None:
    body = b'{"template_key": "WELCOME_EMAIL", "client_id": "acme"}'
    answer = api.post(SEND, sender, data=body, headers={"Content-Type": content_type.encode("latin-1")})

    assert (answer.status_code, _is_shaped(answer)) == (422, True)


def test_a_body_that_is_packed_is_told_to_come_as_it_is(api: Api, sender: str) -> None:
    body = b'{"template_key": "NO_SUCH", "client_id": "acme"}'
    packed = api.post(SEND, sender, data=gzip.compress(body), headers=JSON | {"Content-Encoding": "gzip"})
    plain = [api.post(SEND, sender, data=body, headers=JSON | {"Content-Encoding": x}) for x in ("identity", "utf-8")]

    assert packed.json()["message"] == "body: has a Content-Encoding; send it as it is"
    assert [answer.status_code for answer in (packed, *plain)] == [422, 404, 404]


def test_a_422_names_each_field_and_repeats_no_value(api: Api, sender: str) -> None:
    sent = {"template_key": [CANARY], "client_id": CANARY * 50, "context": CANARY, CANARY: 1, "extra": CANARY}
    message = api.post(SEND, sender, json=sent).json()["message"]

    assert CANARY not in message
    assert sorted(part.split(":")[0] for part in message.split("; ")) == [
        "(a strange name)", "client_id", "context", "extra", "template_key",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/here", 404, None),
        ("GET", "/api/notifications/", 404, None),
        ("GET", "/api/nothing/%00%ff%2e%2e/x", 404, None),
        ("GET", "/docs/oauth2-redirect", 404, None),
        ("GET", "/redoc", 404, None),
        ("DELETE", SEND, 405, "POST"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("OPTIONS", SEND, 405, "POST"),
        ("TRACE", "/healthz", 405, "GET, HEAD"),
        ("HEAD", SEND, 405, "POST"),
    ],
)
def test_a_path_or_method_that_is_not_there_is_told_in_the_same_shape(
    api: Api, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = api.ask(method, path)

    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert method == "HEAD" or _is_shaped(answer)


@pytest.mark.parametrize("path", [SEND, "/api/webhooks/stripe"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_is_413_and_one_of_that_length_is_read(
    api: Api, sender: str, path: str, chunked: bool
) -> None:
    most = BODY_BYTES.get(path, DEFAULT_BODY_BYTES)

    def post(length: int) -> requests.Response:
        body = b"{" + b" " * (length - 1)
        sent = iter([body[: length // 2], body[length // 2 :]]) if chunked else body
        return api.post(path, sender, data=sent, headers=JSON)

    too_long = post(most + 1)
    assert (too_long.status_code, _is_shaped(too_long)) == (413, True)
    assert post(most).status_code != 413


def test_a_connection_goes_on_after_a_body_that_was_too_long(api: Api) -> None:
    with socket.create_connection(_address(api.url), timeout=30) as connection:
        connection.sendall(b"POST /api/notifications HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        connection.sendall(b"x" * 2_000_000)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'{"status":"ok"}')


def test_a_caller_that_hangs_up_in_the_middle_of_a_body_has_asked_nothing(
    api: Api, sender: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "notifyctl.http"):
        with socket.create_connection(_address(api.url), timeout=30) as connection:
            head = f"POST {SEND} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sender}\r\nContent-Length: 100\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{}}".encode())
        while not caplog.records:
            assert api.get("/healthz").status_code == 200
    assert [vars(record)["status"] for record in caplog.records] == [0]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"{}\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"a" * 100_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["TLS", "half a line", "bad header", "JSON", "endless header", "two lengths"],
)
def test_what_is_not_http_gets_an_answer_in_the_same_shape(api: Api, sent: bytes) -> None:
    with socket.create_connection(_address(api.url), timeout=30) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-security-policy" in head.lower()
    assert json.loads(body)["error"] == "invalid_request"


def test_the_body_of_a_request_that_offers_http_2_is_read(api: Api, keeper: str) -> None:
    offer = {
        "Connection": "Upgrade, HTTP2-Settings, close",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
    }
    answer = api.put("/api/clients/acme", keeper, json={"name": "Acme"}, headers=offer)

    assert (answer.status_code, answer.json().get("name")) == (200, "Acme")


@pytest.fixture
def failing(runtime_app: FastAPI) -> Iterator[str]:
    @runtime_app.get("/fail")
    def fail() -> None:
        raise RuntimeError(f"{CANARY} in the text")

    with serving(runtime_app) as url:
        yield url


@pytest.fixture
def runtime_app(api: Api) -> FastAPI:
    return create_app(api.runtime)


def test_what_nobody_expected_is_a_500_without_a_word_of_it_and_one_line_in_the_log(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "notifyctl"):
        answer = requests.get(f"{failing}/fail?{CANARY}", timeout=30)
        _wait_for(caplog, 2)

    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "Content-Security-Policy" in answer.headers
    lines = [vars(record) for record in caplog.records]
    assert [line["msg"] for line in lines] == ["request failed", "request"]
    assert lines[0]["error"] == "RuntimeError"
    assert lines[0]["at"][-1].startswith("test_refusals.py:")
    assert CANARY not in answer.text + caplog.text + str(lines)


def test_a_database_that_cannot_be_used_is_a_503_with_a_time_to_come_back(
    empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = open_runtime(make_settings(database_url=empty_database_url))
    with serving(create_app(runtime)) as url:
        answer = requests.get(f"{url}/api/admin/message-logs", headers={"Authorization": "Bearer nfy_a_b"}, timeout=30)
    runtime.close()

    assert (answer.status_code, answer.json()["error"], answer.headers["Retry-After"]) == (503, "unavailable", "5")
    assert "sql" not in answer.text
    assert [record.msg for record in caplog.records if record.levelno >= logging.WARNING] == ["database unavailable"]


def test_a_code_that_is_asked_for_before_the_templates_are_seeded_is_a_503_and_the_log_says_why(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = open_runtime(make_settings(database_url=database_url))
    with serving(create_app(runtime)) as url, requests.Session() as session:
        api = Api(url, runtime, session)
        asked = {"phone_number": "+4915112345678", "action": "PHONE_VERIFY"}
        answer = api.post("/api/otp/send", api.key(Scope.OTP), json=asked)
    runtime.close()

    assert (answer.status_code, answer.json()["error"], _is_shaped(answer)) == (503, "not_ready", True)
    [line] = [vars(record) for record in caplog.records if record.levelno >= logging.WARNING]
    assert "notifyctl templates" in line["error"]


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def test_every_answer_has_the_headers_that_bind_a_browser(api: Api, admin: str) -> None:
    answers = [
        api.get("/healthz"),
        api.ask("HEAD", "/healthz"),
        api.get("/nothing"),
        api.post("/healthz"),
        api.get("/docs"),
        api.get("/openapi.json", admin),
        api.post(SEND, admin, data=b"{", headers=JSON),
        api.post(SEND, admin, data=b" " * 70_000),
        api.get("/api/notifications/00000000-0000-0000-0000-000000000000", admin),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 404, 405, 401, 200, 422, 413, 404]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "Permissions-Policy" in answer.headers
        assert "Server" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers


def test_behind_https_browsers_are_told_to_stay_there(database_url: str) -> None:
    runtime = open_runtime(make_settings(database_url=database_url, public_base_url="https://notify.acme.example"))
    with serving(create_app(runtime)) as url:
        answer = requests.get(f"{url}/nothing", timeout=30)
    runtime.close()

    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")


def test_head_is_get_without_the_body(api: Api) -> None:
    head, get = api.ask("HEAD", "/healthz"), api.get("/healthz")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_a_request_leaves_one_line_with_its_route_and_nothing_of_its_path(
    api: Api, keeper: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "notifyctl.http"):
        api.put(f"/api/clients/{CANARY}?{CANARY}={CANARY}", keeper, json={"name": CANARY})
        api.get(f"/{CANARY}")
        api.get("/healthz")
        _wait_for(caplog, 2)
    lines = [vars(record) for record in caplog.records]

    told = [tuple(line.get(name) for name in ("method", "route", "status", "key")) for line in lines]
    assert told == [("PUT", "/api/clients/{client_id}", 200, "keeper"), ("GET", "(none)", 404, None)]
    assert all(line["ms"] > 0 for line in lines)
    assert CANARY not in str(lines)


def test_a_method_that_someone_made_up_does_not_fill_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "notifyctl.http"):
        assert api.ask("A" * 5_000, SEND).status_code == 405
        _wait_for(caplog, 1)

    assert [vars(record)["method"] for record in caplog.records] == ["A" * 16]


def _wait_for(caplog: pytest.LogCaptureFixture, lines: int) -> None:
    """A request's line is written after its answer."""
    deadline = monotonic() + 30
    while len(caplog.records) < lines and monotonic() < deadline:
        sleep(0.005)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_name_that_was_misspelt_is_answered_with_the_one_that_was_meant(api: Api) -> None:
    admin = api.key(Scope.ADMIN)
    queries = {
        "stauts=FAILED": "stauts: is unknown; did you mean status?",
        "template=X": "template: is unknown; did you mean template_key?",
        "zzz=1": "zzz: is unknown",
    }
    for query, said in queries.items():
        assert api.get(f"/api/admin/message-logs?{query}", admin).json()["message"] == said
    answer = api.get("/api/admin/message-logs?status=FAILD", admin).json()["message"]
    assert answer.startswith("status: must be 'QUEUED', ")
    assert answer.endswith("; did you mean FAILED?")
    assert "FAILD" not in answer
