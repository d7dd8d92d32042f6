import traceback

import pytest

from notifyctl.models.enums import Channel
from notifyctl.models.template import TemplateSource
from notifyctl.templates.render import Renderer, RenderError

SECRET = "s3cret"


def email(subject="Hello", text="text", html="<p>html</p>", version=1):
    return TemplateSource("WELCOME_EMAIL", version, Channel.EMAIL, subject, text, html)


def sms(text):
    return TemplateSource("OTP_CODE_SMS", 1, Channel.SMS, None, text, None)


def render(source, **context):
    return Renderer().render(source, context)


def test_html_is_escaped_and_text_and_subject_are_not():
    name = "<b>Tom & 'Jerry'</b>"
    content = render(email("{{ name }}", "{{ name }}", '<a title="{{ name }}">{{ name }}</a>'), name=name)
    assert (content.subject, content.text) == (name, name)
    escaped = "&lt;b&gt;Tom &amp; &#39;Jerry&#39;&lt;/b&gt;"
    assert content.html == f'<a title="{escaped}">{escaped}</a>'


def test_an_sms_has_text_only_and_no_blanks_around_it():
    content = render(sms("\n  {{ code }} is your code.\n\n@a.example #{{ code }}\n \n"), code="012345")
    assert (content.subject, content.html) == (None, None)
    assert content.text == "012345 is your code.\n\n@a.example #012345"


def test_dates_and_large_numbers_are_written_for_readers():
    content = render(email(text="{{ day|long_date }}, {{ count|thousands }}"), day="2026-03-09", count=1234567)
    assert content.text == "9 March 2026, 1,234,567"


def test_a_long_name_may_be_broken_behind_its_underscores_in_html_alone():
    body = "{{ reasons|breakable }}"
    content = render(email(subject=body, text=body, html=body), reasons="NO_CODE <3>")
    assert content.html == "NO_<wbr>CODE &lt;3&gt;"
    assert content.text == content.subject == "NO_CODE <3>"


def test_an_undefined_variable_is_an_error_that_names_it_and_the_part():
    with pytest.raises(RenderError) as error:
        render(email(html="{{ nmae }}"), name="x")
    assert str(error.value) == "The HTML of WELCOME_EMAIL version 1 cannot be rendered: 'nmae' is undefined"


def test_an_undefined_variable_in_a_condition_is_an_error_too():
    with pytest.raises(RenderError):
        render(email(text="{% if nmae %}a{% endif %}b"))


def test_neither_message_nor_traceback_of_a_failure_shows_a_value():
    with pytest.raises(RenderError) as error:
        render(sms("{{ code|long_date }}"), code=SECRET)
    assert str(error.value) == "The text of OTP_CODE_SMS version 1 cannot be rendered: ValueError"
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_content_does_not_show_its_words_when_printed():
    assert SECRET not in repr(render(email(SECRET, SECRET, SECRET)))


@pytest.mark.parametrize(
    "body",
    [
        "{{ name.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{{ name.format.__globals__ }}",
        "{{ range(10000000)|list }}",
        "{% include 'other' %}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_reaches_out_of_its_sandbox_or_fails_is_a_render_error(body):
    with pytest.raises(RenderError):
        render(email(text=body), name="x")


def test_a_template_that_is_not_jinja_is_a_render_error_with_its_line():
    with pytest.raises(RenderError, match="line 2: "):
        render(email(text="one\n{% if %}"))


@pytest.mark.parametrize("break_", ["\r", "\n", "\0", "\r\nBcc: x@example.com"])
def test_a_subject_that_would_break_its_header_is_refused(break_):
    with pytest.raises(RenderError, match="line break or NUL"):
        render(email("Hello {{ name }}"), name=f"a{break_}b")


@pytest.mark.parametrize(
    ("source", "part"),
    [(email(subject=" {{ x }}"), "subject"), (email(text="{{ x }}\n "), "text"), (sms("{{ x }}"), "text")],
)
def test_a_part_that_is_empty_once_rendered_is_refused(source, part):
    with pytest.raises(RenderError, match=f"{part} of .* is empty once rendered"):
        render(source, x=" ")


def test_each_version_keeps_its_own_words():
    renderer = Renderer()
    first, second = email(text="first", version=1), email(text="second", version=2)
    assert [renderer.render(source, {}).text for source in (first, second, first)] == [
        "first",
        "second",
        "first",
    ]


def test_one_rendering_leaves_nothing_for_the_next():
    renderer, source = Renderer(), email(text="{% set seen = name %}{{ seen }}{{ more|default }}")
    assert renderer.render(source, {"name": "a", "more": "b"}).text == "ab"
    assert renderer.render(source, {"name": "c"}).text == "c"
