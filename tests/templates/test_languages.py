"""Languages: found beside the default, chosen by a locale, and formatted by their own rules."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from notifyctl.bootstrap import Runtime
from notifyctl.clients.fields import ClientFields
from notifyctl.errors import InvalidInput, TemplateError
from notifyctl.models.enums import OtpAction
from notifyctl.models.message import MessageLog, MessagePayload
from notifyctl.orchestrator.requests import SendRequest
from notifyctl.sandbox import Sandbox
from notifyctl.templates import catalogue
from notifyctl.templates.files import TemplateFile
from notifyctl.templates.lint import lint_file
from notifyctl.templates.render import Renderer, about
from notifyctl.text import locales
from tests.support.command_line import CommandLine
from tests.support.delivery import arrivals
from tests.support.settings import make_settings

SHIPPED = ("en", "de", "fr")


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("de", "de"), ("DE", "de"), ("de_DE", "de-DE"), ("de-at", "de-AT"), ("de_DE.UTF-8", "de-DE"),
        ("zh-Hant-TW", "zh-Hant-TW"), ("ZH_hant_tw", "zh-Hant-TW"), ("es-419", "es-419"), ("ca@valencia", "ca"),
        ("de-DE-1996", "de-DE"), (" fr ", "fr"), ("tlh", "tlh"),
    ],
)  # fmt: skip
def test_a_locale_is_kept_in_one_form(written: str, normal: str) -> None:
    assert locales.normal_locale(written) == normal


@pytest.mark.parametrize("written", ["xx", "german", "", "de-XX", "C", "d", "de AT", "../de", "ｄｅ", "12"])
def test_what_names_no_language_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match="is no language that is known; write it as de, de-AT or zh-Hant-TW"):
        locales.normal_locale(written)


@pytest.mark.parametrize(
    ("locale", "chosen"),
    [
        ("de", ("de", "de")),
        ("de-AT", ("de", "de-AT")),
        ("fr_CA", ("fr", "fr-CA")),
        ("en-US", ("en", "en-US")),
        ("en", ("en", "en")),
        ("pt-BR", ("en", "en")),
        ("zh-Hant-TW", ("en", "en")),
        ("xx", ("en", "en")),
        ("", ("en", "en")),
        (None, ("en", "en")),
        ("de; DROP TABLE client", ("en", "en")),
    ],
)
def test_the_nearest_language_is_chosen_and_its_region_formats(locale: str | None, chosen: tuple[str, str]) -> None:
    assert locales.choose(locale, SHIPPED) == chosen


def test_a_language_of_a_region_is_before_the_language_alone() -> None:
    languages = ("en", "de", "de-AT", "zh", "zh-Hant")
    assert locales.choose("de-AT", languages) == ("de-AT", "de-AT")
    assert locales.choose("zh-Hant-TW", languages) == ("zh-Hant", "zh-Hant-TW")
    assert locales.choose("zh-TW", languages) == ("zh", "zh-TW")


@pytest.mark.parametrize(
    ("amount", "tag", "written"),
    [
        ("49.00 USD", "en", "US$49.00"), ("49.00 USD", "en-US", "$49.00"), ("49.00 EUR", "de", "49,00 €"),
        ("1234.50 EUR", "fr", "1 234,50 €"), ("500 JPY", "de", "500 ¥"), ("500 JPY", "en", "JP¥500"),
        ("1.250 KWD", "de", "1,250 KWD"), ("1.250 KWD", "en", "KWD 1.250"), ("0.005 KWD", "de-AT", "KWD 0,005"),
        ("-3.10 EUR", "de", "-3,10 €"), ("12.345 USD", "en-US", "$12.345"), ("about 5 €", "de", "about 5 €"),
        ("49.00", "de", "49.00"), ("1e5 USD", "de", "1e5 USD"), ("NaN USD", "de", "NaN USD"),
    ],
)  # fmt: skip
def test_money_is_written_as_the_language_does_and_never_rounded(amount: str, tag: str, written: str) -> None:
    assert locales.plain_blanks(locales.money(amount, tag)) == written


@pytest.mark.parametrize(
    ("tag", "written"),
    [
        ("en", "13 April 2026"), ("en-US", "April 13, 2026"), ("de", "13. April 2026"), ("fr", "13 avril 2026"),
        ("tlh", "13 April 2026"), ("de-AT", "13. April 2026"), ("ja", "2026年4月13日"),
    ],
)  # fmt: skip
def test_a_date_is_written_as_the_language_does(tag: str, written: str) -> None:
    assert locales.long_date("2026-04-13", tag) == written


def test_the_first_of_a_month_is_counted_in_french() -> None:
    assert locales.long_date("2026-08-01", "fr") == "1er août 2026"
    assert locales.long_date("2026-08-11", "fr-CA") == "11 août 2026"


@pytest.mark.parametrize(
    ("tag", "count", "form"),
    [("en", 1, "one"), ("en", 0, "other"), ("fr", 0, "one"), ("pl", 3, "few"), ("pl", 5, "many"), ("ja", 1, "other")],
)
def test_a_plural_goes_by_the_rules_of_its_language(tag: str, count: int, form: str) -> None:
    assert locales.plural(count, {name: name for name in ("one", "few", "many", "other")}, tag) == form
    assert locales.plural(count, {"other": "x"}, tag) == "x"


Own = Callable[[dict[str, str]], list[TemplateFile]]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """The template files with a WELCOME_EMAIL that has these files as well; None takes one away."""
    catalogue.export(tmp_path, ["WELCOME_EMAIL", "OTP_CODE_SMS"])

    def make(files: dict[str, str | None]) -> list[TemplateFile]:
        for name, text in files.items():
            place = tmp_path / name
            if text is None:
                place.unlink()
            else:
                place.write_text(text)
        return catalogue.files_of(make_settings(), tmp_path)

    return make


W = "email/WELCOME_EMAIL"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({f"{W}/body.it.txt": "Ciao {{ login_url }}", f"{W}/body.it.html": "<p>Ciao"},
         f"{W}/body.txt: subject_it is missing; body.it.txt needs one"),
        ({f"{W}/body.de.html": None}, f"{W}/body.de.html: is missing; an email needs an HTML part there"),
        ({f"{W}/body.de.txt": None}, f"{W}/body.de.txt: is missing; a language needs every part"),
        ({f"{W}/body.de.txt": " \n"}, f"{W}/body.de.txt: is empty; write what it says"),
        ({f"{W}/body.de.txt": "+++\nx = 1\n+++\nHallo"}, f"{W}/body.de.txt: has front matter; that of the default"),
        ({f"{W}/body.de.txt": "{{ name"}, f"{W}/body.de.txt: is not Jinja2: line 1"),
        ({f"{W}/body.german.txt": "Hallo"}, f"{W}/body.german.txt: has a language in its name, german, that is none"),
        ({f"{W}/body.DE.txt": "Hallo"}, f"{W}/body.DE.txt: has a language in its name, DE, that is none that is"),
        ({f"{W}/body.en.txt": "Hello"}, f"{W}/body.en.txt: has a language in its name, en, that is that of the def"),
        ({"sms/OTP_CODE_SMS.xx.txt": "Hello"}, "sms/OTP_CODE_SMS.xx.txt: has a language in its name, xx, that is none"),
    ],
)  # fmt: skip
def test_a_language_that_is_not_whole_is_told(own: Own, files: dict[str, str], complaint: str) -> None:
    with pytest.raises(TemplateError) as error:
        own(files)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('subject_xx = "Hello"', "subject_xx names no language that is known"),
        ('subject_en = "Hello"', "subject_en is that of the language of subject itself; remove it"),
        ('subject_it = 3', "it must be a valid string, got 3"),
        ('language = "german"', "language names no language that is known"),
    ],
)  # fmt: skip
def test_a_subject_in_no_language_is_told(own: Own, tmp_path: Path, line: str, complaint: str) -> None:
    text = (tmp_path / W / "body.txt").read_text()
    with pytest.raises(TemplateError) as error:
        own({f"{W}/body.txt": text.replace("subject = ", f"{line}\nsubject = ", 1)})
    assert complaint in str(error.value)


def test_the_default_may_be_another_language(own: Own, tmp_path: Path) -> None:
    text = (tmp_path / W / "body.txt").read_text()
    head, _, _ = text.partition("+++\nHello")
    german = head.replace('subject = "Your account is ready"', 'language = "de"\nsubject = "Ihr Konto"')
    english = "<p>Hello {{ client_name }} {{ login_url }}"
    german = german.replace('subject_de = "Ihr Konto ist eingerichtet"\n', 'subject_en = "Your account is ready"\n')
    body, html = (tmp_path / W / "body.de.txt").read_text(), (tmp_path / W / "body.de.html").read_text()
    files = own(
        {
            f"{W}/body.txt": f"{german}+++\n{body}", f"{W}/body.html": html,
            f"{W}/body.en.txt": text.split("+++\n")[2], f"{W}/body.en.html": english,
            f"{W}/body.de.txt": None, f"{W}/body.de.html": None,
        }
    )  # fmt: skip
    [file] = [file for file in files if file.template_key == "WELCOME_EMAIL"]
    assert file.languages == ("de", "en", "fr")
    content = Renderer().render(file.source, file.example)
    assert content.text.startswith("Guten Tag")
    assert "Falls die Schaltfläche" in (content.html or "")
    assert '<html lang="de"' in (content.html or "")


def test_lint_finds_what_a_language_leaves_out_and_what_costs_two_sms(own: Own, tmp_path: Path) -> None:
    long = "{{ code }} " + "est votre code, qui ne vaut que peu de temps " * 4 + "{{ valid_minutes }} ç {{ domain }}"
    files = own({f"{W}/body.de.txt": "Hallo.", "sms/OTP_CODE_SMS.fr.txt": long + "{{ kode }}"})
    found = {(finding.rule, finding.detail) for file in files for finding in lint_file(file)}
    assert ("language", "the de text leaves out login_url, which the other has") in found
    assert ("undeclared", "the fr text uses kode; declare [variables.kode] or remove it") in found
    own({"sms/OTP_CODE_SMS.fr.txt": long})
    found = {finding.detail for file in catalogue.files_of(make_settings(), tmp_path) for finding in lint_file(file)}
    assert any(detail.startswith("in fr, with its example: takes 4 segments") for detail in found), found
    assert any("in fr, with its example: needs UCS-2, which halves the room for text, because of" in it for it in found)


def test_a_language_that_runs_from_right_to_left_is_marked_so(own: Own, tmp_path: Path) -> None:
    text = (tmp_path / W / "body.txt").read_text().replace("subject = ", 'subject_he = "שלום"\nsubject = ', 1)
    html = (tmp_path / W / "body.html").read_text()
    files = own(
        {f"{W}/body.txt": text, f"{W}/body.he.txt": "שלום {{ client_name }} {{ login_url }}", f"{W}/body.he.html": html}
    )
    [file] = [file for file in files if file.template_key == "WELCOME_EMAIL"]
    page = Renderer().render(file.source, file.example | about("he", "he-IL")).html or ""
    assert '<html lang="he" dir="rtl"' in page
    assert "text-align: right" in page
    assert "text-align: left" not in page.partition("<body")[2]
    assert not [finding for finding in lint_file(file) if finding.rule == "direction"]
    files = own({f"{W}/body.he.html": '<html dir="ltr"><body>{{ client_name }} {{ login_url }}'})
    [file] = [file for file in files if file.template_key == "WELCOME_EMAIL"]
    assert "direction" in {finding.rule for finding in lint_file(file)}


def test_a_client_gets_its_language_and_the_message_says_which(
    runtime: Runtime, notifyctl: CommandLine, sandbox: Sandbox
) -> None:
    at = {"POSTMARK_API_URL": sandbox.url, "TWILIO_API_URL": sandbox.url}
    people = {"anna": "de_AT", "bob": None, "zoe": "pt"}
    for name, locale in people.items():
        more = ("--locale", locale) if locale else ()
        made = notifyctl("clients", "set", name, "--email", f"{name}@x.example", "--provisioning", "COMPLETED", *more)
        assert made.code == 0, made.err
        sent = notifyctl(
            "send", "WELCOME_EMAIL", "--client", name,
            "--set", f"client_name={name}", "--set", "login_url=https://a.example", **at,
        )  # fmt: skip
        assert sent.code == 0, sent.err
    assert notifyctl("worker", "--once", "--no-jobs", **at).code == 0
    subjects = {name: arrivals(sandbox, f"{name}@x.example")[0].subject for name in people}
    assert subjects == {
        "anna": "Ihr Konto ist eingerichtet", "bob": "Your account is ready", "zoe": "Your account is ready",
    }  # fmt: skip
    listed = json.loads(notifyctl("messages", "list", "--client", "anna", "--format", "json").out)
    shown = json.loads(notifyctl("messages", "show", listed[0]["id"], "--format", "json").out)
    assert (shown["template_version"], shown["language"]) == (1, "de")
    explained = notifyctl("messages", "explain", listed[0]["id"])
    assert "version 1, in de" in explained.out
    assert json.loads(notifyctl("clients", "show", "anna", "--format", "json").out)["locale"] == "de-AT"


@pytest.mark.parametrize("strange", [{"language": "it", "locale": "it"}, {"language": 3}, "de", None, {}])
def test_what_a_version_does_not_speak_is_said_in_its_default(own: Own, strange: object) -> None:
    [file] = [file for file in own({}) if file.template_key == "WELCOME_EMAIL"]
    content = Renderer().render(file.source, file.example | {"@": strange})
    assert content == Renderer().render(file.source, file.example)


def test_the_key_of_a_message_is_not_about_its_language(runtime: Runtime) -> None:
    """A client that changes its locale between two tries is still written to once."""
    with runtime.database.transaction() as session:
        first, second = runtime.orchestrator.send_many(
            session,
            [
                SendRequest(
                    template_key="OPS_ALERT_NOTIFICATION_SPIKE", recipient="ops@acme.example", idempotency_key="k",
                    locale=locale, context=SPIKE,
                )
                for locale in ("de", "fr")
            ],
        )  # fmt: skip
    assert second.message_id == first.message_id


SPIKE = {
    "channel": "EMAIL", "level": "WARN", "transition": "raised", "failed": 1, "sent": 2, "rate_percent": 33.3,
    "window_minutes": 15,
}  # fmt: skip


def test_a_code_is_asked_for_in_a_language(runtime: Runtime) -> None:
    for phone, locale in (("+4915112345678", "de-CH"), ("+4915112345679", "nonsense"), ("+4915112345670", None)):
        runtime.otp.send(phone, OtpAction.PHONE_VERIFY, locale=locale)
    with runtime.database.read() as session:
        found = session.execute(
            select(MessageLog.language, MessagePayload.sealed)
            .join_from(MessageLog, MessagePayload, MessagePayload.message_id == MessageLog.id)
            .order_by(MessageLog.created_at, MessageLog.id)
        ).all()
    assert [language for language, _ in found] == ["de", "en", "en"]
    assert all(sealed for _, sealed in found)


def test_a_locale_of_before_that_nobody_knows_does_no_harm(runtime: Runtime) -> None:
    fields = ClientFields(runtime.plans)
    assert fields.change("ann", {"locale": "de_DE"}).values == {"locale": "de-DE"}
    with pytest.raises(InvalidInput, match="locale: 'xx' is no language"):
        fields.change("ann", {"locale": "xx"})
    assert locales.choose("c4n4ry", SHIPPED) == ("en", "en")


def test_the_shipped_french_is_set_as_a_french_printer_sets_it() -> None:
    """’ and no blank before : ? ; ! at which a line may break. SMS are apart: either sign takes two of them."""
    company = {name: "" for name in catalogue.company(make_settings())}
    for file in catalogue.load(catalogue.templates_dir(), company):
        if "fr" not in file.translations or file.html_body is None:
            continue
        content = Renderer().render(file.source, file.example | about("fr", "fr"))
        words = re.sub(
            r"<style.*?</style>|<!--.*?-->|<[^>]*>|https?://\S+",
            "",
            f"{content.subject} {content.text} {content.html}",
            flags=re.DOTALL,
        )
        assert not re.findall(r"\w+['\x20][?:;!](?=\s|$)|\w+'\w+|n° \d", words), file.template_key
