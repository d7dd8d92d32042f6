"""`notifyctl otp` as support uses it."""

import json

from notifyctl.bootstrap import Runtime
from tests.support.command_line import CommandLine
from tests.support.otp_codes import PHONE, VERIFY, audits, sent_code, wrong


def test_status_tells_the_lock_and_no_code(runtime: Runtime, notifyctl: CommandLine) -> None:
    code = sent_code(runtime)
    before = notifyctl("otp", "status", PHONE)
    for number in range(5):
        runtime.otp.verify(PHONE, VERIFY, wrong(code, number + 1))
    after = notifyctl("otp", "status", PHONE)

    assert (before.code, after.code) == (0, 0)
    assert "locked       no" in before.out
    assert "PHONE_VERIFY for " in before.out
    assert "locked       yes, for 14 min" in after.out
    for shown in (before.out, after.out):
        assert code not in shown
        assert PHONE not in shown


def test_status_as_json_has_every_figure(runtime: Runtime, notifyctl: CommandLine) -> None:
    sent_code(runtime)
    told = json.loads(notifyctl("otp", "status", PHONE, "--format", "json").out)

    assert (told["locked"], told["failed_count"], told["sent_in_window"]) == (False, 0, 1)
    assert [code["action"] for code in told["live_codes"]] == ["PHONE_VERIFY"]


def test_a_phone_that_nobody_asked_about_is_shown_as_untouched(runtime: Runtime, notifyctl: CommandLine) -> None:
    shown = notifyctl("otp", "status", PHONE)

    assert shown.code == 0
    assert "live codes   none" in shown.out


def test_unlock_ends_the_lock_and_says_who_did_it(runtime: Runtime, notifyctl: CommandLine) -> None:
    code = sent_code(runtime)
    for number in range(5):
        runtime.otp.verify(PHONE, VERIFY, wrong(code, number + 1))
    done = notifyctl("otp", "unlock", PHONE)

    assert (done.code, done.err) == (0, "Unlocked. Forgotten: 5 wrong codes in a row.\n")
    assert not runtime.otp.status(PHONE).is_locked
    assert audits(runtime)[-1][0] == "OTP_UNLOCKED"
    assert not runtime.otp.verify(PHONE, VERIFY, code)


def test_unlocking_what_is_not_locked_finds_nothing(runtime: Runtime, notifyctl: CommandLine) -> None:
    done = notifyctl("otp", "unlock", PHONE)

    assert done.code == 4
    assert "is not locked" in done.err


def test_what_is_no_number_is_named(runtime: Runtime, notifyctl: CommandLine) -> None:
    for command in ("status", "unlock"):
        done = notifyctl("otp", command, "12ab")
        assert done.code == 2
        assert "'12ab'" in done.err
