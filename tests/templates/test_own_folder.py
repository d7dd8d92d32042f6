"""A company's own folder of templates: exported, changed, honoured everywhere, and never lost."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.errors import TemplateError
from notifyctl.templates import catalogue, files
from notifyctl.templates.files import SHIPPED
from tests.support.command_line import CommandLine
from tests.support.settings import make_settings

Own = Callable[..., Path]


@pytest.fixture
def own(notifyctl: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Exports (all, or these) into a folder, which the settings name from then on."""

    def make(*names: str) -> Path:
        folder = tmp_path / "acme"
        exported = notifyctl("templates", "export", str(folder), *names)
        assert exported.code == 0, exported.err
        monkeypatch.setenv("NOTIFICATION_TEMPLATES", str(folder))
        return folder

    return make


def edit(path: Path, before: str, after: str) -> None:
    words = path.read_text()
    assert before in words
    path.write_text(words.replace(before, after))


def rows(notifyctl: CommandLine, *arguments: str) -> dict[str, dict[str, object]]:
    ran = notifyctl("templates", *arguments, "--format", "json")
    return {row["template_key"]: row for row in json.loads(ran.out)}


def test_what_is_exported_is_all_that_is_shipped_and_changes_nothing(own: Own, notifyctl: CommandLine) -> None:
    notifyctl("templates", "seed")
    folder = own()
    shipped = catalogue.templates_dir()
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(shipped) for path in shipped.rglob("*")
    }
    assert notifyctl("templates", "diff").code == 0


def test_a_changed_word_is_linted_shown_compared_and_seeded(own: Own, notifyctl: CommandLine) -> None:
    notifyctl("templates", "seed")
    folder = own("WELCOME_EMAIL")
    for part in ("body.txt", "body.html"):
        edit(folder / "email" / "WELCOME_EMAIL" / part, "thank you for choosing us", "thank you for your trust")
    assert notifyctl("templates", "lint").code == 0
    assert "thank you for your trust" in notifyctl("templates", "render", "WELCOME_EMAIL").out
    assert set(rows(notifyctl, "diff")) == {"WELCOME_EMAIL"}
    seeded = rows(notifyctl, "seed")
    assert seeded["WELCOME_EMAIL"]["origin"] == str(folder)
    assert {row["origin"] for key, row in seeded.items() if key != "WELCOME_EMAIL"} == {SHIPPED}
    assert notifyctl("templates", "diff").code == 0
    assert f"{folder}" in notifyctl("templates", "show", "WELCOME_EMAIL").out


def test_a_layout_of_ones_own_is_that_of_every_mail(own: Own, notifyctl: CommandLine) -> None:
    notifyctl("templates", "seed")
    folder = own("_layout.html")
    edit(folder / "email" / "_layout.html", "border-radius: 12px", "border-radius: 0")
    changed = {key for key, row in rows(notifyctl, "seed").items() if row["status"] == "CHANGED"}
    mails = {
        file.template_key for file in files.load(files.templates_dir()) if 'class="card"' in (file.html_body or "")
    }
    assert changed == mails


def test_shipped_templates_never_take_the_place_of_own_ones_by_themselves(
    own: Own, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host, which does not know the folder; or an upgrade after which nobody thought of it."""
    folder = own("WELCOME_EMAIL")
    edit(folder / "email" / "WELCOME_EMAIL" / "body.txt", "choosing us", "your trust")
    notifyctl("templates", "seed")
    monkeypatch.delenv("NOTIFICATION_TEMPLATES")

    kept = notifyctl("templates", "seed")
    assert kept.code == 0
    assert f"1 template kept, which came from {folder}: set NOTIFICATION_TEMPLATES to it and" in kept.err
    assert "your trust" in notifyctl("templates", "render", "WELCOME_EMAIL", "--stored").out
    assert rows(notifyctl, "diff")["WELCOME_EMAIL"]["status"] == "KEPT"

    doctor = notifyctl("doctor", "--format", "json")
    [finding] = [row for row in json.loads(doctor.out) if row["check"] == "templates"]
    assert finding["status"] == "warn"
    assert finding["problem"] == f"WELCOME_EMAIL came from {folder}, and this host does not find them there"
    assert "templates seed" not in finding["remedy"]

    replaced = rows(notifyctl, "seed", "--replace")["WELCOME_EMAIL"]
    assert (replaced["status"], replaced["origin"]) == ("CHANGED", SHIPPED)
    assert "choosing us" in notifyctl("templates", "render", "WELCOME_EMAIL", "--stored").out


def test_a_template_that_is_taken_out_of_the_folder_is_kept_too(own: Own, notifyctl: CommandLine) -> None:
    folder = own("WELCOME_EMAIL", "_layout.html")
    edit(folder / "email" / "WELCOME_EMAIL" / "body.txt", "choosing us", "your trust")
    notifyctl("templates", "seed")
    shutil.rmtree(folder / "email" / "WELCOME_EMAIL")
    assert rows(notifyctl, "seed")["WELCOME_EMAIL"]["status"] == "KEPT"


def test_a_folder_elsewhere_replaces_own_templates_as_a_new_release_does(
    own: Own, notifyctl: CommandLine, tmp_path: Path
) -> None:
    folder = own("WELCOME_EMAIL")
    edit(folder / "email" / "WELCOME_EMAIL" / "body.txt", "choosing us", "your trust")
    notifyctl("templates", "seed")
    release = folder.rename(tmp_path / "release-2")
    edit(release / "email" / "WELCOME_EMAIL" / "body.txt", "your trust", "your trust in us")
    seeded = rows(notifyctl, "seed", "--dir", str(release))["WELCOME_EMAIL"]
    assert (seeded["status"], seeded["origin"]) == ("CHANGED", str(release))


def test_export_writes_nothing_over(notifyctl: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    assert notifyctl("templates", "export", str(folder)).err.endswith(f" files written to {folder}.\n")
    assert notifyctl("templates", "export", str(folder)).err == f"0 files written to {folder}.\n"
    edit(folder / "email" / "WELCOME_EMAIL" / "body.txt", "choosing us", "your trust")
    (folder / "email" / "_layout.html").unlink()
    refused = notifyctl("templates", "export", str(folder))
    assert (refused.code, refused.err) == (
        2,
        f"notifyctl: {folder}/email/WELCOME_EMAIL/body.txt reads otherwise; nothing was written, name another folder\n",
    )
    assert not (folder / "email" / "_layout.html").exists()


def test_export_names_what_it_does_not_know(notifyctl: CommandLine, tmp_path: Path) -> None:
    refused = notifyctl("templates", "export", str(tmp_path / "acme"), "WELCOME_EMAL")
    assert refused.code == 4
    assert "there is no template 'WELCOME_EMAL'; did you mean WELCOME_EMAIL?" in refused.err
    (tmp_path / "file").write_text("")
    assert "cannot be written: Not a directory" in notifyctl("templates", "export", str(tmp_path / "file" / "x")).err


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: folder.rename(folder.parent / "gone"), "acme is no folder; mend NOTIFICATION_TEMPLATES"),
        (
            lambda folder: (folder / "email" / "WELCOME_EMAIL" / "body.html").unlink(),
            "email/WELCOME_EMAIL/body.html: is missing; an email needs an HTML part there",
        ),
        (
            lambda folder: edit(folder / "email" / "WELCOME_EMAIL" / "body.html", "_layout.html", "_lay.html"),
            "email/WELCOME_EMAIL/body.html: names a file that is of no use: ",
        ),
        (
            lambda folder: (folder / "email").rename(folder / "mails"),
            "acme has no templates; expected email/KEY/body.txt and sms/KEY.txt",
        ),
    ],
)
@pytest.mark.parametrize("command", ["seed", "diff", "lint", "render"])
def test_a_folder_that_is_gone_or_half_is_told_and_nothing_is_seeded(
    own: Own, notifyctl: CommandLine, command: str, spoil: Callable[[Path], object], complaint: str
) -> None:
    spoil(own("WELCOME_EMAIL"))
    ran = notifyctl("templates", command, *(["WELCOME_EMAIL"] if command == "render" else []))
    assert ran.code == 2
    assert complaint in ran.err
    assert "Traceback" not in ran.err


def test_doctor_tells_of_a_folder_that_is_gone(own: Own, notifyctl: CommandLine) -> None:
    folder = own("WELCOME_EMAIL")
    folder.rename(folder.parent / "gone")
    found = {row["check"]: row for row in json.loads(notifyctl("doctor", "--format", "json").out)}
    assert found["templates"]["status"] == "fail"
    assert f"{folder} is no folder" in found["templates"]["problem"]


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may look everywhere")
    (tmp_path / "email").mkdir(0)
    with pytest.raises(TemplateError, match="email cannot be read: Permission denied; let this user read it"):
        catalogue.files_of(make_settings(), tmp_path)


def test_what_was_seeded_before_origins_were_kept_is_ours_only_where_it_reads_so(
    empty_database_url: str,
) -> None:
    database = Database(empty_database_url)
    migrations.upgrade(database)
    migrations.downgrade(database, "0012")
    ours = "Ops alert: {{ summary }}. See: notifyctl health"
    with database.transaction() as session:
        for key, words in (("OPS_ALERT_SMS", ours), ("OTP_CODE_SMS", f"Acme! {ours}")):
            session.execute(
                text(
                    "INSERT INTO notification_template (template_key, channel, audience, lane, billing,"
                    " requires_provisioned, requires_active_subscription, rate_limit_max_sends, rate_limit_by,"
                    " sensitive, on_doubt, enabled, description, version, updated_at)"
                    " VALUES (:key, 'SMS', 'ADMIN', 'URGENT', :no, :no, :no, 1, '[]', :no,"
                    " 'HOLD', :no, '', 1, '2026-03-02 12:00:00')"
                ),
                {"key": key, "no": False},
            )
            session.execute(
                text(
                    "INSERT INTO notification_template_version (template_key, version, content_hash, text_body,"
                    " variables, example, flags, created_at) VALUES (:key, 1, '', :words, '{}', '{}', '{}',"
                    " '2026-03-02 12:00:00')"
                ),
                {"key": key, "words": words},
            )
    migrations.upgrade(database)
    with database.read() as session:
        found = session.execute(text("SELECT template_key, origin FROM notification_template_version ORDER BY 1")).all()
    database.close()
    assert [tuple(row) for row in found] == [("OPS_ALERT_SMS", "shipped"), ("OTP_CODE_SMS", "another folder")]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("emails/WELCOME_EMAIL/body.txt", "expected are email/KEY/body.txt"),
        ("WELCOME_EMAIL/body.txt", "expected are email/KEY/body.txt"),
        ("email/WELCOME_EMAIL/body_it.txt", "expected are email/KEY/body.txt"),
        ("email/WELCOME_EMAIL/Body.html", "expected are email/KEY/body.txt"),
        ("email/WELCOME_EMAIL.txt", "expected are email/KEY/body.txt"),
        ("email/_layuot.html", "no template includes a part of this name"),
        ("email/_foot.it.html", "no template includes a part of this name"),
        ("sms/OTP_CODE_SMS.it.txt", "it is beside no sms/OTP_CODE_SMS.txt"),
    ],
)
def test_lint_says_which_file_goes_into_no_mail(notifyctl: CommandLine, tmp_path: Path, name: str, why: str) -> None:
    """Whoever misspells a name changes a word, sees no fault, and sends the old one."""
    folder = tmp_path / "acme"
    notifyctl("templates", "export", str(folder), "WELCOME_EMAIL", "_layout.html")
    (folder / "email" / "_questions.it.html").write_text("Domande?")
    (folder / "email" / "README.md").write_text("Words are by Ada.")
    assert notifyctl("templates", "lint", "--dir", str(folder)).code == 0
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("words")
    (found,) = json.loads(notifyctl("templates", "lint", "--dir", str(folder), "--format", "json").out)
    assert (found["severity"], found["rule"]) == ("WARNING", "unread")
    assert found["detail"].startswith(f"{name} is read by nothing: {why}")


def test_a_fault_in_a_language_names_the_file_of_that_language(notifyctl: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    notifyctl("templates", "export", str(folder), "WELCOME_EMAIL")
    edit(folder / "email" / "WELCOME_EMAIL" / "body.de.html", "{{ client_name }}", "{{ client_name }")
    refused = notifyctl("templates", "lint", "--dir", str(folder))
    assert "email/WELCOME_EMAIL/body.de.html: is not Jinja2: line 6" in refused.err


ATTEMPT = """[variables.attempt]
type = "integer"
description = "Which attempt this was, from 1."
example = 2
"""


def without_attempts(folder: Path) -> Path:
    """As a company does that does not want to say how often it has tried."""
    for path in (folder / "email" / "PAYMENT_FAILED").iterdir():
        path.write_text(re.sub(r"[^.\n]*\{\{ attempt \}\}.*", "", path.read_text()))
    return folder / "email" / "PAYMENT_FAILED" / "body.txt"


def test_an_own_template_need_not_show_all_that_the_shipped_one_is_given(own: Own, notifyctl: CommandLine) -> None:
    without_attempts(own("PAYMENT_FAILED"))
    linted = notifyctl("templates", "lint")
    assert (linted.code, linted.out) == (0, "")


@pytest.mark.parametrize(
    ("key", "before", "after", "complaint"),
    [
        ("PAYMENT_FAILED", ATTEMPT, "", "attempt is no longer declared, and messages bring it: all would be refused"),
        ("PAYMENT_FAILED", 'type = "integer"', 'type = "string"', "attempt is brought as integer; declare it as that"),
        ("PAYMENT_FAILED", "optional = true\n", "", "amount is not always brought; put its optional = true back"),
        ("PAYMENT_FAILED", "billing = true\n", "", "billing is not as in the shipped one, which has True"),
        ("OTP_CODE_SMS", "sensitive = true\n", "", "sensitive is not as in the shipped one, which has True"),
    ],
)
def test_an_own_template_that_would_have_its_messages_refused_is_not_seeded(
    own: Own, notifyctl: CommandLine, key: str, before: str, after: str, complaint: str
) -> None:
    """Stripe brings `attempt` whatever a company's mail says: without this, no client hears of a failed payment."""
    notifyctl("templates", "seed")
    folder = own("PAYMENT_FAILED", "OTP_CODE_SMS")
    without_attempts(folder)
    head = folder / "sms" / f"{key}.txt" if key.endswith("SMS") else folder / "email" / key / "body.txt"
    edit(head, before, after)
    if before.startswith("type"):
        edit(head, "example = 2", 'example = "2"')
    seeded = notifyctl("templates", "seed")
    assert seeded.code == 2
    assert f"{key}: {complaint}" in seeded.err
    found = {row["check"]: row for row in json.loads(notifyctl("doctor", "--format", "json").out)}
    assert found["templates"]["status"] == "fail"
    assert found["templates"]["problem"] == (
        f"your files of {key} do not take what notifyctl brings: where seeded, messages are refused"
    )


def test_an_own_template_may_be_sensitive_where_the_shipped_one_is_not(own: Own, notifyctl: CommandLine) -> None:
    notifyctl("templates", "seed")
    head = own("PAYMENT_FAILED") / "email" / "PAYMENT_FAILED" / "body.txt"
    edit(head, "billing = true\n", "billing = true\nsensitive = true\n")
    seeded = notifyctl("templates", "seed")
    assert (seeded.code, seeded.err.endswith(" templates, 1 changed.\n")) == (0, True), seeded.err


def test_a_variable_that_only_a_company_knows_is_told_of(own: Own, notifyctl: CommandLine) -> None:
    folder = own("WELCOME_EMAIL")
    head = folder / "email" / "WELCOME_EMAIL" / "body.txt"
    edit(
        head, "\n+++\nHello", '\n\n[variables.gift]\ntype = "string"\ndescription = "x"\nexample = "x"\n+++\n{{ gift }}'
    )
    found = json.loads(notifyctl("templates", "lint", "--format", "json").out)
    assert any(row["detail"].startswith("gift is unknown to notifyctl") for row in found), found
    edit(head, "[variables.gift]", "[variables.gift]\noptional = true")
    edit(head, "{{ gift }}", "{{ gift|default }}")
    assert not any(
        "gift is unknown" in row["detail"] for row in json.loads(notifyctl("templates", "lint", "--format", "json").out)
    )


def faults(folder: Path) -> list[str]:
    with pytest.raises(TemplateError) as error:
        catalogue.files_of(make_settings(), folder)
    return str(error.value).splitlines()


def test_what_is_wrong_with_the_layout_is_told_once_with_its_own_line(own: Own) -> None:
    layout = own("_layout.html") / "email" / "_layout.html"
    edit(layout, "{{ brand.color }}", "{{ brand.colour }}")
    line = layout.read_text().partition("brand.colour")[0].count("\n") + 1
    (fault,) = faults(layout.parent.parent)
    assert f"{layout} line {line}: brand.colour is unknown; did you mean color?" in fault


def test_a_fault_in_html_names_the_file_and_the_line_that_its_author_sees(own: Own) -> None:
    folder = own("WELCOME_EMAIL")
    edit(folder / "email" / "WELCOME_EMAIL" / "body.html", "{{ client_name }}", "{{ client_name }")
    assert faults(folder) == ["email/WELCOME_EMAIL/body.html: is not Jinja2: line 6: unexpected '}'"]


@pytest.mark.parametrize("leftover", ["body.txt.bak", "body.it.html~", "body.txt.orig", "body.html.rej"])
def test_what_an_editor_left_behind_is_no_language(own: Own, notifyctl: CommandLine, leftover: str) -> None:
    folder = own("WELCOME_EMAIL", "OTP_CODE_SMS")
    (folder / "email" / "WELCOME_EMAIL" / leftover).write_text("{% if")
    (folder / "sms" / leftover.replace("body", "OTP_CODE_SMS")).write_text("{% if")
    assert notifyctl("templates", "lint").code == 0
