import pytest

from notifyctl.errors import TemplateError
from notifyctl.templates.files import TemplateFile
from notifyctl.templates.front_matter import FrontMatter
from notifyctl.templates.lint import Severity, lint_file, refuse_errors

NAME = {"type": "string", "description": "A name.", "example": "Ann"}
NOTE = {"type": "string", "description": "A note.", "example": "soon", "optional": True}


def an_email(text="Hello {{ name }}", html="<p>Hello {{ name }}</p>", subject="Hello", variables=None):
    return _file("EMAIL", text, html, subject, variables)


def an_sms(text, variables=None):
    return _file("SMS", text, None, None, variables)


def _file(channel, text, html, subject, variables):
    front = FrontMatter(
        template_key="GREETING",
        description="A greeting.",
        channel=channel,
        audience="CLIENT",
        lane="BULK",
        on_doubt="HOLD",
        subject=subject,
        variables={"name": NAME} if variables is None else variables,
    )
    return TemplateFile("greeting.txt", front, text, html)


def rules(file):
    return [finding.rule for finding in lint_file(file)]


def test_a_sound_template_has_no_findings():
    assert lint_file(an_email()) == []
    assert lint_file(an_sms("Hello {{ name }}")) == []


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (an_email(subject="{{ nmae }}"), "subject"),
        (an_email(text="{{ name }}{{ nmae|default }}"), "text"),
        (an_email(html="<p>{{ name }}{{ nmae|default }}</p>"), "HTML"),
    ],
)
def test_an_undeclared_variable_is_found_in_every_part(file, part):
    found = [finding.detail for finding in lint_file(file) if finding.rule == "undeclared"]
    assert found == [f"the {part} uses nmae; declare [variables.nmae] or remove it"]


def test_a_variable_that_is_used_nowhere_is_found():
    assert rules(an_email(variables={"name": NAME, "note": NOTE})) == ["unused"]


def test_a_variable_that_the_text_part_lacks_is_found():
    assert rules(an_email(text="Hello")) == ["text-part"]


def test_an_optional_variable_that_the_template_cannot_do_without_is_found():
    file = an_sms("{{ name }} {{ note }}", {"name": NAME, "note": NOTE})
    (finding,) = lint_file(file)
    assert (finding.rule, finding.severity) == ("render", Severity.ERROR)
    assert finding.detail.startswith("without note: ")
    assert "'note' is undefined" in finding.detail


def test_a_text_that_is_empty_without_its_optional_variables_is_found():
    variables = {"note": NOTE, "other": NOTE}
    (finding,) = lint_file(an_sms("{{ note|default }}{{ other|default }}", variables))
    assert finding.detail.startswith("without note, other: ")
    assert finding.detail.endswith("is empty once rendered")


def test_html_that_shows_nothing_is_found():
    file = an_email(html='<head><title>{{ name }}</title><style>a { b: c }</style></head><p title="{{ name }}"></p>')
    assert rules(file) == ["empty"]


def test_an_sms_outside_of_gsm_7_is_found():
    assert rules(an_sms("Hello {{ name }} ✓")) == ["sms-encoding"]


def test_the_characters_that_double_the_price_of_an_sms_are_named_once():
    note = NOTE | {"example": "z"}
    (finding,) = lint_file(an_sms("Łó\u202f🚀 {{ name }} – Ł{{ note|default }}", {"name": NAME, "note": note}))
    assert finding.detail.endswith("halves the room for text, because of Ł ó U+202F 🚀 –")


def test_an_sms_of_several_segments_is_found_with_its_size():
    (finding,) = lint_file(an_sms("{{ name }}" + "x" * 158))
    assert (finding.rule, finding.severity) == ("sms-segments", Severity.WARNING)
    assert "2 segments with 161 characters" in finding.detail


def test_a_link_without_tls_is_found_but_an_xml_namespace_is_none():
    html = '<html xmlns="http://www.w3.org/1999/xhtml"><a href="http://a.example/b">{{ name }}</a></html>'
    (finding,) = lint_file(an_email(html=html))
    assert finding.detail == "with its example: the HTML links to http://a.example; use https"


def test_a_subject_that_is_cut_off_is_found():
    assert rules(an_email(subject="x" * 78)) == []
    assert rules(an_email(subject="x" * 79)) == ["subject"]


def test_an_image_without_alt_text_is_found():
    html = '<img src="cid:a" alt=""><img src="cid:b">{{ name }}'
    assert rules(an_email(html=html)) == ["alt"]


def test_errors_are_refused_together_and_warnings_are_not():
    refuse_errors([an_sms("{{ name }} ✓")])
    with pytest.raises(TemplateError) as error:
        refuse_errors([an_email(text="{{ name }}{{ one|default }}"), an_sms("Hello")])
    assert "GREETING: the text uses one" in str(error.value)
    assert "name is used nowhere" in str(error.value)
