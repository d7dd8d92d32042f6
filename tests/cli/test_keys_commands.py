import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import insert, text

from notifyctl.bootstrap import Runtime
from notifyctl.http import api_keys
from notifyctl.http.api_keys import Refused
from notifyctl.models.columns import table
from notifyctl.models.enums import Scope
from notifyctl.models.operations import ApiKey
from tests.support.command_line import CommandLine


def _recognised(runtime: Runtime, key: str) -> object:
    with runtime.database.read() as session:
        found = api_keys.recognise(session, key.encode(), runtime.clock())
    return found if isinstance(found, Refused) else (found.name, found.scopes)


def test_create_prints_the_key_alone_and_it_opens_what_it_says(notifyctl: CommandLine, runtime: Runtime) -> None:
    ran = notifyctl("keys", "create", "backend", "--scope", "send", "--scope", "READ")

    assert ran.code == 0
    assert re.fullmatch(r"nfy_[0-9a-f]{10}_[A-Za-z0-9_-]{43}\n", ran.out)
    assert "only its hash is stored" in ran.err
    assert ran.out.strip() not in ran.err
    assert _recognised(runtime, ran.out.strip()) == ("backend", ["send", "read"])


def test_every_key_is_another_one(notifyctl: CommandLine) -> None:
    made = {notifyctl("keys", "create", f"k{number}", "--scope", "otp").out for number in range(20)}

    assert len(made) == 20


def test_a_key_with_an_end_is_recognised_until_then(notifyctl: CommandLine, runtime: Runtime) -> None:
    key = notifyctl("keys", "create", "backend", "--scope", "send", "--expires", "90d").out.strip()
    now = runtime.clock()

    with runtime.database.read() as session:
        last = api_keys.recognise(session, key.encode(), now + timedelta(days=89))
        over = api_keys.recognise(session, key.encode(), now + timedelta(days=90, seconds=1))
    assert not isinstance(last, Refused)
    assert over == Refused("expired", "backend")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("backend",), "--scope is missing"),
        (("backend", "--scope", "root"), "'root' is unknown; it is one of"),
        (("backend", "--scope", "send", "--expires", "soon"), "--expires 'soon' is not a duration"),
        (("backend", "--scope", "send", "--expires", "0d"), "would never open anything"),
        (("backend", "--scope", "send", "--expires", ""), "is not a duration"),
        (("", "--scope", "send"), "cannot be a key's name"),
        ((" backend", "--scope", "send"), "cannot be a key's name"),
        (("back\nend", "--scope", "send"), "cannot be a key's name"),
        (("x" * 65, "--scope", "send"), "cannot be a key's name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_a_key_is_refused_in_one_line(
    notifyctl: CommandLine, arguments: tuple[str, ...], told: str
) -> None:
    ran = notifyctl("keys", "create", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_a_name_is_given_to_one_active_key_at_a_time(notifyctl: CommandLine) -> None:
    notifyctl("keys", "create", "backend", "--scope", "send")
    again = notifyctl("keys", "create", "backend", "--scope", "send")
    notifyctl("keys", "revoke", "backend")
    after = notifyctl("keys", "create", "backend", "--scope", "send")

    assert (again.code, after.code) == (2, 0)
    assert "revoke it first, or take another name" in again.err


def test_revoke_takes_a_name_or_an_id_and_does_it_once(notifyctl: CommandLine, runtime: Runtime) -> None:
    first = notifyctl("keys", "create", "backend", "--scope", "send").out.strip()
    second = notifyctl("keys", "create", "support", "--scope", "read").out.strip()
    codes = [notifyctl("keys", "revoke", given).code for given in ("backend", second.split("_")[1][-6:])]
    again = notifyctl("keys", "revoke", "backend")

    assert codes == [0, 0]
    assert [_recognised(runtime, key) for key in (first, second)] == [
        Refused("revoked", "backend"),
        Refused("revoked", "support"),
    ]
    assert again.code == 4
    with runtime.database.read() as session:
        actors = session.execute(text("SELECT actor FROM audit_log WHERE action = 'API_KEY_REVOKED'")).scalars().all()
    assert len(actors) == 2
    assert all(actor.startswith("cli") for actor in actors)


def test_a_part_of_an_id_revokes_when_one_key_alone_has_it_and_none_is_called_so(
    notifyctl: CommandLine, runtime: Runtime
) -> None:
    made = notifyctl("keys", "create", "backend", "--scope", "send").out.strip().split("_")[1]
    with runtime.database.transaction() as session:
        twin = made[:9] + ("0" if made[9] != "0" else "1")
        row = {"id": twin, "name": "twin", "key_hash": "x", "scopes": ["read"], "created_at": runtime.clock()}
        session.execute(insert(table(ApiKey)).values(**row))
    several = notifyctl("keys", "revoke", made[:6])
    assert (several.code, "means 2 keys" in several.err, twin in several.err) == (2, True, True)
    assert notifyctl("keys", "revoke", made[-5:]).code == 4, "too short"
    assert notifyctl("keys", "revoke", made[-6:]).code == 0


def test_two_that_revoke_at_once_leave_one_audit_row(runtime: Runtime) -> None:
    with runtime.database.transaction() as session:
        api_keys.create(session, "backend", [Scope.SEND], expires_at=None, actor="test", now=runtime.clock())

    def revoke(number: int) -> None:
        with runtime.database.transaction() as session:
            api_keys.revoke(session, "backend", actor=f"test {number}", now=runtime.clock())

    with ThreadPoolExecutor(8) as pool:
        tried = [pool.submit(revoke, number) for number in range(8)]
    assert any(one.exception() is None for one in tried)
    with runtime.database.read() as session:
        rows = session.execute(text("SELECT count(*) FROM audit_log WHERE action = 'API_KEY_REVOKED'")).scalar_one()
    assert rows == 1


def test_list_tells_the_state_and_never_a_key_or_its_hash(notifyctl: CommandLine, runtime: Runtime) -> None:
    keys = [notifyctl("keys", "create", name, "--scope", "read").out.strip() for name in ("one", "two")]
    notifyctl("keys", "revoke", "one")
    with runtime.database.transaction() as session:
        yesterday = runtime.clock() - timedelta(days=1)
        api_keys.create(session, "old", [Scope.OTP], expires_at=yesterday, actor="test", now=yesterday)
        hashes = session.execute(text("SELECT key_hash FROM api_key")).scalars().all()
    listed = {
        form: notifyctl("keys", "list", "--format", form).out for form in ("table", "json", "jsonl", "csv", "tsv")
    }
    rows = {row["name"]: row for row in json.loads(listed["json"])}

    assert {name: row["state"] for name, row in rows.items()} == {"one": "revoked", "two": "active", "old": "expired"}
    assert rows["two"]["scopes"] == ["read"]
    assert rows["one"]["revoked_at"].endswith("Z")
    for out in listed.values():
        assert not any(secret in out for secret in [*hashes, *(key.split("_", 2)[2] for key in keys)])


def test_an_empty_list_says_how_to_make_one(notifyctl: CommandLine) -> None:
    ran = notifyctl("keys", "list")

    assert (ran.code, "notifyctl keys create" in ran.err) == (0, True)


def test_doctor_tells_of_keys_that_are_about_to_end(notifyctl: CommandLine) -> None:
    notifyctl("keys", "create", "backend", "--scope", "send", "--expires", "3d")
    notifyctl("keys", "create", "fine", "--scope", "send", "--expires", "90d")
    found = {row["check"]: row for row in json.loads(notifyctl("doctor", "--format", "json").out)}

    assert found["keys about to end"]["status"] == "warn"
    assert "backend" in found["keys about to end"]["problem"]
    assert "fine" not in found["keys about to end"]["problem"]
