import re
import shutil

import pytest

from notifyctl.errors import TemplateError
from notifyctl.models.enums import Channel
from notifyctl.models.message import TEST_TEMPLATES
from notifyctl.templates import catalogue, files
from notifyctl.templates.lint import lint_file
from notifyctl.templates.matrix import matrix_markdown
from notifyctl.templates.render import Renderer, about
from notifyctl.text.sms_segments import measure

HOUR, DAY = 3600, 86400
PLAIN = {
    "billing": False,
    "requires_provisioned": False,
    "requires_active_subscription": False,
    "plan_required_feature_key": None,
    "rate_limit_window_seconds": None,
    "rate_limit_max_sends": 1,
    "rate_limit_by": [],
    "sensitive": False,
    "audit_sent": None,
    "enabled": True,
}
REMINDER = {
    "requires_active_subscription": True,
    "rate_limit_window_seconds": DAY,
    "rate_limit_by": ["item_reference"],
    "expires_after_seconds": DAY,
}
BILLING = {"billing": True, "expires_after_seconds": 3 * DAY}
SPIKE = {
    "rate_limit_window_seconds": 900,
    "rate_limit_by": ["channel", "transition"],
    "expires_after_seconds": HOUR,
}
BY_SUBJECT = {"rate_limit_window_seconds": DAY, "rate_limit_by": ["subject"], "expires_after_seconds": DAY}

RULES = {
    "WELCOME_EMAIL": (
        "EMAIL CLIENT TRANSACTIONAL RESEND",
        {"requires_provisioned": True, "rate_limit_window_seconds": DAY, "expires_after_seconds": 3 * DAY},
        "client_name login_url",
    ),
    "PASSWORD_RESET": (
        "EMAIL CLIENT URGENT HOLD",
        {
            "requires_provisioned": True,
            "sensitive": True,
            "rate_limit_window_seconds": HOUR,
            "rate_limit_max_sends": 3,
            "expires_after_seconds": HOUR,
        },
        "client_name reset_url valid_minutes",
    ),
    "SUBSCRIPTION_CONFIRMED": (
        "EMAIL CLIENT TRANSACTIONAL RESEND",
        BILLING,
        "client_name plan_name? amount? period_end?",
    ),
    "PAYMENT_FAILED": (
        "EMAIL CLIENT TRANSACTIONAL RESEND",
        BILLING,
        "client_name amount? attempt next_attempt_on? update_url?",
    ),
    "SUBSCRIPTION_CANCELED": (
        "EMAIL CLIENT TRANSACTIONAL RESEND",
        BILLING,
        "client_name plan_name? ended_on cause?",
    ),
    "COMPLIANCE_EXPIRY_REMINDER": (
        "EMAIL CLIENT BULK RESEND",
        REMINDER,
        "client_name item_name item_reference expires_on days_left renew_url?",
    ),
    "COMPLIANCE_EXPIRY_REMINDER_SMS": (
        "SMS CLIENT BULK HOLD",
        REMINDER | {"plan_required_feature_key": "sms_reminders"},
        "item_name item_reference expires_on days_left",
    ),
    "COMPLIANCE_SLA_ALERT": ("EMAIL ADMIN TRANSACTIONAL RESEND", BY_SUBJECT, "subject details count"),
    "OTP_CODE_SMS": (
        "SMS CLIENT URGENT HOLD",
        {
            "sensitive": True,
            "audit_sent": "OTP_SENT",
            "rate_limit_window_seconds": 1800,
            "rate_limit_max_sends": 3,
            "expires_after_seconds": 600,
        },
        "code valid_minutes domain?",
    ),
    "OPS_ALERT_NOTIFICATION_SPIKE": (
        "EMAIL ADMIN URGENT RESEND",
        SPIKE,
        "channel level transition failed sent rate_percent window_minutes top_reasons? top_templates?",
    ),
    "NOTIFICATION_SPIKE_ALERT_ADMIN": (
        "EMAIL ADMIN URGENT RESEND",
        SPIKE,
        "channel level transition failed sent rate_percent window_minutes top_reasons? top_templates?",
    ),
    "OPS_ALERT_SMS": (
        "SMS ADMIN URGENT HOLD",
        {
            "enabled": False,
            "rate_limit_window_seconds": 900,
            "rate_limit_by": ["summary"],
            "expires_after_seconds": HOUR,
        },
        "summary",
    ),
    "PROVISIONING_FAILED_ADMIN": (
        "EMAIL ADMIN TRANSACTIONAL RESEND",
        {"rate_limit_window_seconds": HOUR, "rate_limit_by": ["client_id"], "expires_after_seconds": DAY},
        "client_id client_name detail?",
    ),
    "TEMPLATE_TEST": (
        "EMAIL ADMIN TRANSACTIONAL RESEND",
        {"expires_after_seconds": DAY},
        "subject text html html_2? html_3?",
    ),
    "TEMPLATE_TEST_SMS": ("SMS ADMIN TRANSACTIONAL HOLD", {"expires_after_seconds": DAY}, "text"),
    "STRIPE_WEBHOOK_FAILURE_ADMIN": (
        "EMAIL ADMIN TRANSACTIONAL RESEND",
        BY_SUBJECT,
        "subject event_type error count",
    ),
}

FILES = {file.template_key: file for file in catalogue.load(catalogue.templates_dir())}
EMAILS = sorted(
    key for key, file in FILES.items() if file.front.channel is Channel.EMAIL and key != TEST_TEMPLATES[Channel.EMAIL]
)
SMS = sorted(key for key, file in FILES.items() if file.front.channel is Channel.SMS)


def render(key, *, without=(), language=None, **values):
    file = FILES[key]
    context = {name: value for name, value in (file.example | values).items() if name not in without}
    return Renderer().render(file.source, context | (about(language, language) if language else {}))


def optional(key):
    return [name for name, variable in FILES[key].front.variables.items() if variable.optional]


def test_the_shipped_templates_are_these():
    assert FILES.keys() == RULES.keys()


@pytest.mark.parametrize("key", RULES)
def test_a_shipped_template_has_its_flags_and_variables(key):
    words, flags, variables = RULES[key]
    channel, audience, lane, on_doubt = words.split()
    head = {"channel": channel, "audience": audience, "lane": lane, "on_doubt": on_doubt}
    found = FILES[key].front.flags()
    assert found.pop("description")
    assert found == PLAIN | head | flags
    declared = FILES[key].front.variables.items()
    assert " ".join(name + "?" * variable.optional for name, variable in declared) == variables


@pytest.mark.parametrize("key", RULES)
def test_a_shipped_template_lints_clean(key):
    assert lint_file(FILES[key]) == []


@pytest.mark.parametrize("key", RULES)
def test_a_shipped_template_renders_with_and_without_its_optional_values(key):
    for without in ([], optional(key)):
        content = render(key, without=without)
        for part in (content.subject, content.text, content.html):
            assert "None" not in (part or "").replace("None, this was the last one", "")
            assert "{{" not in (part or "")


@pytest.mark.parametrize("language", ["de", "fr"])
@pytest.mark.parametrize("key", [key for key, rules in RULES.items() if " CLIENT " in rules[0]])
def test_what_clients_get_is_there_in_german_and_in_french(key, language):
    assert FILES[key].languages == ("en", "de", "fr")
    english, other = (render(key, language=tag) for tag in (None, language))
    for part in ("subject", "text", "html"):
        written = getattr(other, part)
        if written is not None:
            assert written != getattr(english, part)
            words = set(re.findall(r"[A-Za-z]+", re.sub(r"(?s)<style.*?</style>|<[^>]*>|https?://\S+", " ", written)))
            assert not words & {"the", "you", "your", "Your", "Hello", "Questions", "is", "will", "button"}, part
    assert f'<html lang="{language}" dir="ltr"' in (other.html or f'<html lang="{language}" dir="ltr"')


@pytest.mark.parametrize("language", ["de", "fr"])
@pytest.mark.parametrize("key", [key for key, rules in RULES.items() if " CLIENT " in rules[0]])
def test_a_translation_takes_null_for_none_given_and_needs_no_name(key, language):
    nulls = dict.fromkeys(optional(key))
    assert render(key, language=language, **nulls) == render(key, language=language, without=nulls)
    if "client_name" in FILES[key].front.variables:
        assert not re.search(r"(Guten Tag|Bonjour) ,", render(key, language=language, client_name="").text)


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_no_month_makes_two_sms_of_one(language, month):
    text = render("COMPLIANCE_EXPIRY_REMINDER_SMS", language=language, expires_on=f"2026-{month:02}-28").text
    assert (measure(text).encoding, measure(text).segments) == ("GSM-7", 1)


@pytest.mark.parametrize("key", RULES)
def test_a_shipped_template_treats_a_null_optional_value_as_none_given(key):
    nulls = dict.fromkeys(optional(key))
    assert render(key, **nulls) == render(key, without=nulls)


@pytest.mark.parametrize("key", [key for key in EMAILS if "client_name" in FILES[key].front.variables])
def test_a_client_without_a_name_is_not_greeted_with_a_hole(key):
    content = render(key, client_name="")
    for part in (content.text, content.html):
        assert "Hello ," not in part
        assert "()" not in part


@pytest.mark.parametrize("key", EMAILS)
def test_the_html_of_an_email_is_self_contained_and_its_css_is_inlined(key):
    html = FILES[key].html_body
    assert not re.search(r"\{%-?\s*(extends|include|import|block)", html)
    body = html[html.index("<body") :]
    for tag in ("body", "table", "h1", "p", "th"):
        plain = [
            found for found in re.findall(rf"<{tag}\b[^>]*>", _without_conditionals(body)) if "style=" not in found
        ]
        assert plain == [], tag
    assert "@media (prefers-color-scheme: dark)" in html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert '<html lang="{{ mail.language }}" dir="{{ mail.direction }}"' in html
    assert 'class="preheader"' in html
    assert len(html) < 16_000


def _without_conditionals(html):
    return re.sub(r"<!--\[if mso\]>.*?<!\[endif\]-->", "", html, flags=re.DOTALL)


@pytest.mark.parametrize("key", EMAILS)
def test_layout_tables_are_hidden_from_screen_readers_and_fact_tables_have_row_heads(key):
    for table in re.findall(r"<table\b.*?>.*?(?=<table|</table>)", FILES[key].html_body, flags=re.DOTALL):
        assert 'role="presentation"' in table or '<th scope="row"' in table


@pytest.mark.parametrize("key", ["WELCOME_EMAIL", "PASSWORD_RESET", "PAYMENT_FAILED", "COMPLIANCE_EXPIRY_REMINDER"])
def test_the_button_and_its_outlook_twin_lead_to_the_same_escaped_address(key):
    name = next(name for name in FILES[key].front.variables if name.endswith("_url"))
    html = render(key, **{name: "https://a.example/?b=1&c=2"}).html
    links = re.findall(r'href="([^"]+)"', html)
    assert set(links) == {"https://a.example/?b=1&amp;c=2"}
    assert html.count("<v:roundrect href=") == 1


@pytest.mark.parametrize("key", EMAILS)
def test_a_hostile_value_cannot_add_markup_to_an_email(key):
    strings = [name for name, variable in FILES[key].front.variables.items() if variable.type == "string"]
    attack = "--><![endif]--><script>\"'{{ 7*7 }}"
    html = render(key, **dict.fromkeys(strings, attack)).html
    assert "<script" not in html
    assert "49" not in re.sub(r"<style.*?</style>|\d+\.00 USD", "", html, flags=re.DOTALL)


@pytest.mark.parametrize("key", SMS)
def test_an_sms_fits_one_gsm_7_segment(key):
    for language in FILES[key].languages:
        for without in ([], optional(key)):
            size = measure(render(key, without=without, language=language).text)
            assert (size.encoding, size.segments) == ("GSM-7", 1)


def test_the_last_line_of_a_code_is_what_a_browser_reads():
    text = render("OTP_CODE_SMS", code="012345", domain="app.example.com").text
    assert text.split("\n")[-2:] == ["", "@app.example.com #012345"]


@pytest.mark.parametrize("domain", ["", None])
def test_a_code_without_a_domain_has_no_line_for_browsers(domain):
    assert "@" not in render("OTP_CODE_SMS", domain=domain).text


def test_a_failed_payment_says_when_it_is_tried_again():
    content = render("PAYMENT_FAILED", next_attempt_on="2026-03-19")
    for part in (content.text, content.html):
        assert "19 March 2026" in part
        assert "last" not in part


def test_a_failed_payment_without_a_next_attempt_says_that_it_was_the_last():
    content = render("PAYMENT_FAILED", without=["next_attempt_on"])
    for part in (content.text, content.html):
        assert "This was the last automatic attempt." in part


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("cancellation_requested", "because you asked us to"),
        ("payment_failed", "because the payments for it did not go through"),
        ("payment_disputed", "because a payment for it was disputed"),
        ("moved_to_another_plan", "moved to another plan"),
    ],
)
def test_a_cancellation_gives_its_cause_in_words(cause, words):
    content = render("SUBSCRIPTION_CANCELED", cause=cause)
    assert words in content.text
    assert words in content.html


@pytest.mark.parametrize(("days", "words"), [(30, "in 30 days"), (1, "tomorrow"), (0, "today"), (-1, "today")])
def test_a_reminder_counts_days_as_people_do(days, words):
    assert render("COMPLIANCE_EXPIRY_REMINDER", days_left=days).subject == f"Food safety certificate expires {words}"
    assert f"expires {words}, on 13 April 2026" in render("COMPLIANCE_EXPIRY_REMINDER_SMS", days_left=days).text


@pytest.mark.parametrize("key", ["OPS_ALERT_NOTIFICATION_SPIKE", "NOTIFICATION_SPIKE_ALERT_ADMIN"])
def test_an_all_clear_reads_as_one(key):
    content = render(key, level="OK", transition="cleared", failed=0, rate_percent=0)
    assert "going out normally again" in content.text
    assert ">OK</p>" in content.html


def test_variables_of_the_subject_are_marked():
    variables = FILES["SUBSCRIPTION_CONFIRMED"].variables
    assert [name for name, variable in variables.items() if variable.in_header] == ["plan_name"]


def test_the_matrix_has_every_template_and_says_where_the_rate_of_codes_comes_from():
    page = matrix_markdown(list(FILES.values()))
    assert all(page.count(f"\n| `{key}` |") == 2 for key in RULES)
    row = next(line for line in page.splitlines() if line.startswith("| `OTP_CODE_SMS` | SMS"))
    assert "| OTP_SEND_RATE_LIMIT | OTP_TTL_SECONDS | HOLD | sensitive, audits OTP_SENT |" in row
    assert "| 1 in 24 h by item_reference | 24 h |" in page


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(catalogue.templates_dir(), tmp_path / "templates")


def faults(directory):
    with pytest.raises(TemplateError) as error:
        catalogue.load(directory)
    return str(error.value)


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('"SMS"', '"FAX"', "channel must be 'EMAIL' or 'SMS', got 'FAX'"),
        ('lane = "URGENT"', 'lane = "FAST"', "lane must be 'URGENT', 'TRANSACTIONAL' or 'BULK', got 'FAST'"),
        ("enabled = false", "enabeld = false", "enabeld is unknown; did you mean enabled?"),
        ("enabled = false", 'enabled = "no"', "enabled must be a valid boolean, got 'no'"),
        ('on_doubt = "HOLD"\n', "", "on_doubt is missing; add it"),
        ("= 900", "= -900", "rate_limit_window_seconds must be greater than or equal to 1, got -900"),
        ('["summary"]', '["sumary"]', "rate_limit_by names 'sumary', which is no variable"),
        ("= 900", "= 900 s", "front matter is not TOML"),
        ('example = "EMAIL', 'examples = "EMAIL', "variables.summary.examples is unknown; did you mean example?"),
        ("enabled = false", 'subject = "x"', "subject is set, but an SMS has none; remove it"),
        ("enabled = false", 'audit_sent = "SENT"', "audit_sent must be"),
        ('"OPS_ALERT_SMS"', '"OTHER_SMS"', "template_key 'OTHER_SMS' does not fit the file's place"),
        ("{{ summary }}", "{{ summary }", "is not Jinja2: line 19"),
        ("{{ summary }}", "{{ summary|uper }}", "line 19: filter 'uper' is unknown; did you mean upper?"),
        ("{% if brand.", "{% if 1 is evn and brand.", "line 19: test 'evn' is unknown; did you mean even?"),
        ("{{ summary }}", "{{ brand.naem }}{{ summary }}", "line 19: brand.naem is unknown; did you mean name?"),
        ("{{ summary }}", "{{ mail.langage }}{{ summary }}", "line 19: mail.langage is unknown; did you mean language"),
        ("{{ summary }}", "\n\0{{ summary }}", "has a NUL character in line 20, which no database takes; remove it"),
        ("+++", "---", "has no front matter; begin it with +++"),
        ('type = "string"', 'type = "integer"', "example: summary must be an integer, got a string"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_named_with_its_field_and_value(copy, before, after, fault):
    edit(copy / "sms" / "OPS_ALERT_SMS.txt", before, after)
    assert f"sms/OPS_ALERT_SMS.txt: {fault}" in faults(copy)


def test_faults_of_all_files_are_told_at_once(copy):
    (copy / "email" / "WELCOME_EMAIL" / "body.txt").unlink()
    (copy / "email" / "PASSWORD_RESET" / "body.html").unlink()
    edit(copy / "email" / "PAYMENT_FAILED" / "body.html", "_layout.html", "_lay.html")
    edit(copy / "email" / "SUBSCRIPTION_CONFIRMED" / "body.html", "block title", "block titel")
    (copy / "sms" / "OTP_CODE_SMS.txt").write_bytes(b"+++\n\xff")
    text = faults(copy)
    assert "email/WELCOME_EMAIL/body.txt: is missing; an email needs a text part" in text
    assert "email/PASSWORD_RESET/body.html: is missing; an email needs an HTML part" in text
    assert "email/PAYMENT_FAILED/body.html: names " in text
    assert "block titel is not in _layout.html" in text
    assert "sms/OTP_CODE_SMS.txt: is not UTF-8" in text


def test_a_text_part_without_words_is_a_fault(copy):
    path = copy / "sms" / "OPS_ALERT_SMS.txt"
    path.write_text(path.read_text().rpartition("+++\n")[0] + "+++\n \n")
    assert "sms/OPS_ALERT_SMS.txt: text part is missing" in faults(copy)


def test_a_key_used_twice_is_a_fault(copy):
    shutil.copytree(copy / "email" / "WELCOME_EMAIL", copy / "email" / "WELCOME")
    assert "email/WELCOME/body.txt: template_key 'WELCOME_EMAIL' does not fit" in faults(copy)


def test_an_empty_directory_is_a_fault(tmp_path):
    assert faults(tmp_path).endswith("has no templates; expected email/KEY/body.txt and sms/KEY.txt")


def test_a_file_with_windows_line_ends_reads_the_same(copy):
    path = copy / "sms" / "OTP_CODE_SMS.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    loaded = {file.template_key: file for file in catalogue.load(copy)}
    assert loaded["OTP_CODE_SMS"] == FILES["OTP_CODE_SMS"]


def test_jinja_between_table_rows_stays_where_it_was_through_inlining():
    page = (
        "<html><head><style>td { color: red }</style></head><body><table>"
        '{% for x in xs %}<tr><td class="{% if x > 1 %}a{% endif %}">{{ x|f("<") }}</td></tr>{% endfor %}'
        "</table></body></html>"
    )
    inlined = files.inline(page)
    assert '{% for x in xs %}<tr><td class="{% if x > 1 %}a{% endif %}" style="color: red;">{{ x|f("<") }}' in inlined
    assert "</tr>{% endfor %}</table>" in inlined


def test_text_outside_of_every_block_is_refused_rather_than_lost():
    with pytest.raises(files.HtmlError, match="'lost' stands outside"):
        files.flatten('{% extends "a" %}\nlost{% block b %}{% endblock %}', lambda _: "{% block b %}{% endblock %}")
