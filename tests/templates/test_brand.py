"""A company's name, logo, colour and addresses in its mails, its SMS and its sender."""

import re
from dataclasses import replace
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.errors import ConfigurationError, TemplateError
from notifyctl.models.enums import Audience, Channel
from notifyctl.models.message import TEST_TEMPLATES
from notifyctl.models.template import UNBRANDED
from notifyctl.settings import Settings, load_settings
from notifyctl.templates import catalogue, files
from notifyctl.templates import store as template_store
from notifyctl.templates.catalogue import SeedChange, SeedStatus
from notifyctl.templates.lint import lint_file
from notifyctl.templates.render import Content, Renderer, about
from notifyctl.text import colors
from tests.support.settings import PEPPER, SECRET, make_settings

BRAND = {
    "brand_name": "Acme, Inc.",
    "brand_logo_url": "https://www.acme.example/logo.png",
    "brand_color": "#0b6b3a",
    "brand_url": "https://www.acme.example/",
    "brand_address": "1 Harbour Street, London E1 6AN",
    "brand_imprint": "Company no. 01234567 <registered>",
    "support_email": "help@acme.example",
}


def rendered(key: str, **settings: str) -> Content:
    [file] = [file for file in catalogue.files_of(make_settings(**settings)) if file.template_key == key]
    return Renderer().render(file.source, file.example)


def from_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    monkeypatch.setenv("NOTIFICATION_SECRET_KEY", SECRET)
    monkeypatch.setenv("OTP_PEPPER", PEPPER)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    return load_settings()


def test_every_mail_shows_the_company_in_its_head_and_at_its_foot() -> None:
    for file in catalogue.files_of(make_settings(**BRAND)):
        if file.front.channel is not Channel.EMAIL or file.template_key == TEST_TEMPLATES[Channel.EMAIL]:
            continue
        html = Renderer().render(file.source, file.example).html or ""
        assert '<img src="https://www.acme.example/logo.png" alt="Acme, Inc." height="48"' in html
        assert 'href="https://www.acme.example/"' in html
        assert "1 Harbour Street, London E1 6AN" in html
        assert "Company no. 01234567 &lt;registered&gt;" in html
        assert "#1a56db" not in html
        assert lint_file(file) == []


def test_a_mail_to_operators_begins_with_the_name_of_the_installation_and_no_other_does() -> None:
    for file in catalogue.files_of(make_settings(installation_name="acme-prod", **BRAND)):
        if file.template_key in TEST_TEMPLATES.values():
            continue
        content = Renderer().render(file.source, file.example)
        begins = (content.subject or content.text).startswith(("[acme-prod] ", "acme-prod: "))
        assert begins == (file.front.audience is Audience.ADMIN), file.template_key


def test_without_a_logo_the_name_stands_in_its_place() -> None:
    html = rendered("WELCOME_EMAIL", brand_name="Acme & Sons").html or ""
    assert "<img" not in html
    assert re.search(r'<td class="brand"[^>]*>\s*Acme &amp; Sons\s*</td>', html)


def test_without_any_of_it_a_mail_has_no_empty_head_and_no_empty_foot() -> None:
    content = rendered("WELCOME_EMAIL")
    assert 'class="brand"' not in (content.html or "")
    assert 'class="company"' not in (content.html or "")
    assert content.text.rstrip().endswith("Questions? Just reply to this email and we will help you.")


def test_the_text_part_is_signed_and_names_the_support_address() -> None:
    text = rendered("WELCOME_EMAIL", **BRAND).text
    assert "Welcome to Acme, Inc., and thank you" in text
    assert "Questions? Write to help@acme.example and we will help you." in text
    assert text.split("\n-- \n")[1].split("\n") == [
        "Acme, Inc.",
        "1 Harbour Street, London E1 6AN",
        "Company no. 01234567 <registered>",
        "https://www.acme.example/",
        "",
    ]


@pytest.mark.parametrize("key", ["OTP_CODE_SMS", "COMPLIANCE_EXPIRY_REMINDER_SMS", "OPS_ALERT_SMS"])
def test_an_sms_begins_with_the_name(key: str) -> None:
    assert rendered(key, brand_name="Acme").text.startswith("Acme: ")
    assert "Acme" not in rendered(key).text


def test_a_code_names_its_company_and_is_still_read_by_a_browser() -> None:
    text = rendered("OTP_CODE_SMS", brand_name="Acme").text
    assert text.startswith("Acme: 493817 is your code.")
    assert text.endswith("\n@app.example.com #493817")


@pytest.mark.parametrize(
    ("name", "sender", "used"),
    [
        ("Acme", "hello@acme.example", "Acme <hello@acme.example>"),
        ("Acme, Inc.", "hello@acme.example", '"Acme, Inc." <hello@acme.example>'),
        ("Müller & Söhne", "hello@acme.example", "Müller & Söhne <hello@acme.example>"),
        ("Acme (Berlin)", "hello@acme.example", '"Acme (Berlin)" <hello@acme.example>'),
        ("Acme", "The Team <hello@acme.example>", "The Team <hello@acme.example>"),
    ],
)
def test_the_name_stands_before_the_address_that_sends(
    monkeypatch: pytest.MonkeyPatch, name: str, sender: str, used: str
) -> None:
    settings = from_environment(monkeypatch, BRAND_NAME=name, EMAIL_SENDER=sender)
    assert settings.email_sender == used
    shown, address = parseaddr(used)
    assert Address(shown, addr_spec=address).addr_spec == "hello@acme.example"


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"BRAND_NAME": 'Acme" <x@y.example>'}, "BRAND_NAME 'Acme\" <x@y.example>' must be a name without \", \\, <"),
        ({"BRAND_NAME": "Acme\nBcc: all@acme.example"}, "BRAND_NAME has a line break"),
        ({"BRAND_NAME": "A" * 41}, "must be at most 40 characters long: it begins every SMS"),
        ({"BRAND_COLOR": "blue"}, "BRAND_COLOR 'blue' must be a colour as #1a56db"),
        ({"BRAND_COLOR": "#ffdd00"}, "its contrast is 1.3, and 4.5 is the least; #"),
        ({"BRAND_LOGO_URL": "http://acme.example/l.png", "BRAND_NAME": "A"}, "must be a URL on https, such as"),
        ({"BRAND_LOGO_URL": "https://acme.example/l.png"}, "BRAND_LOGO_URL needs BRAND_NAME, which is read where"),
        ({"BRAND_URL": "https://acme.example/a b"}, "BRAND_URL 'https://acme.example/a b' must be a URL with blanks"),
        ({"SUPPORT_EMAIL": "help at acme"}, "SUPPORT_EMAIL 'help at acme' must be an email address"),
    ],
)
def test_what_would_spoil_every_mail_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        from_environment(monkeypatch, **variables)
    assert complaint in str(error.value)


def test_a_colour_that_is_refused_comes_with_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as error:
        from_environment(monkeypatch, BRAND_COLOR="#FD0")
    [instead] = re.findall(r"; (#\w{6}) is the nearest", str(error.value))
    assert from_environment(monkeypatch, BRAND_COLOR=instead).brand_color == instead
    assert from_environment(monkeypatch, BRAND_COLOR="#0B6B3A").brand_color == "#0b6b3a"


@pytest.mark.parametrize("color", ["#1a56db", "#000000", "#0b6b3a", "#767676", "#c4002f"])
def test_in_the_dark_links_are_read_and_buttons_are_seen(color: str) -> None:
    assert colors.contrast(colors.link_on_dark(color), colors.DARK_CARD) >= 7
    button = colors.button_on_dark(color)
    assert colors.contrast(button, colors.DARK_CARD) >= 3
    assert colors.contrast(button, colors.WHITE) >= 4.5


def test_where_nothing_is_set_it_is_as_the_templates_have_it() -> None:
    assert catalogue.company(make_settings()) == UNBRANDED


def test_lint_finds_words_that_can_hardly_be_read() -> None:
    [file] = [file for file in files.load(files.templates_dir()) if file.template_key == "WELCOME_EMAIL"]
    pale = (file.html_body or "").replace("{{ brand.color }}", "#9ad1ff")
    [finding] = lint_file(replace(file, html_body=pale))
    assert finding.rule == "contrast"
    assert "writes #ffffff on #9ad1ff, a contrast of 1.6; 4.5 is the least" in finding.detail


def test_a_variable_cannot_take_the_name_of_the_company(tmp_path: Path) -> None:
    (tmp_path / "sms").mkdir()
    text = (
        (files.templates_dir() / "sms" / "OPS_ALERT_SMS.txt")
        .read_text()
        .replace("variables.summary", "variables.brand")
    )
    (tmp_path / "sms" / "OPS_ALERT_SMS.txt").write_text(text.replace('["summary"]', '["brand"]'))
    with pytest.raises(TemplateError, match=r"\[variables.brand\] has a name that every template has already"):
        files.load(tmp_path)


def test_a_new_brand_makes_a_new_version_of_what_shows_it_and_of_nothing_else(runtime: Runtime) -> None:
    def seeded(**brand: str) -> dict[str, SeedChange]:
        settings = make_settings(**brand)
        now = runtime.clock()
        with runtime.database.transaction() as session:
            changes = catalogue.seed(session, catalogue.files_of(settings), settings=settings, now=now, actor="test")
        return {change.template_key: change for change in changes if change.status is not SeedStatus.UNCHANGED}

    before = seeded(brand_name="Acme")["WELCOME_EMAIL"].version
    assert seeded(brand_name="Acme") == {}
    changed = seeded(brand_name="Acme", brand_imprint="HRB 1")
    assert {change.fields for change in changed.values()} == {("brand",)}
    assert not any(key.endswith("SMS") for key in changed)
    with runtime.database.read() as session:
        versions = [("WELCOME_EMAIL", before), ("WELCOME_EMAIL", changed["WELCOME_EMAIL"].version)]
        stored = template_store.sources(session, versions)
        first, second = (stored[version] for version in versions)
    context = {"client_name": "Dana", "login_url": "https://a.example"}
    assert "HRB 1" not in (Renderer().render(first, context).html or "")
    assert "HRB 1" in (Renderer().render(second, context).html or "")


def test_whoever_reads_the_page_of_a_mail_can_write_to_support_with_a_click() -> None:
    for file in catalogue.files_of(make_settings(**BRAND)):
        for language in file.languages:
            html = Renderer().render(file.source, file.example | about(language, language)).html or ""
            assert html.count("help@acme.example") == 2 * html.count('href="mailto:help@acme.example"'), file.path
