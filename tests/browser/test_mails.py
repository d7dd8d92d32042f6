"""What mails look like to eyes, to screen readers, and on a phone, in each language, with pictures."""

from pathlib import Path

import pytest

from notifyctl.templates.files import TemplateFile
from tests.browser.chromium import Tab
from tests.browser.mails import BRAND, mails, page
from tests.browser.test_looks import violations

PLAIN, BRANDED = mails(), mails(**BRAND)
CASES = [(file, language) for file in BRANDED.values() for language in file.languages]
CASES += [(file, "en") for file in PLAIN.values()]


def name(value: object) -> str | None:
    if isinstance(value, TemplateFile):
        return value.template_key + ("" if value.brand["name"] else "-plain")
    return str(value)


@pytest.mark.parametrize(("file", "language"), CASES, ids=name)
def test_a_mail_is_for_everyone_by_day_by_night_and_on_a_phone(
    tab: Tab, axe: str, tmp_path: Path, file: TemplateFile, language: str
) -> None:
    (tmp_path / "mail.html").write_text(page(file, language), encoding="utf-8")
    tab.open((tmp_path / "mail.html").as_uri())
    tab.js(f"{axe}; 0")
    faults = {}
    for scheme in ("dark", "light"):
        tab.prefer(color_scheme=scheme)
        tab.resize(680, 900)
        tab.picture(tmp_path / f"{file.template_key}-{language}-{scheme}.png")
        faults[scheme] = [fault for fault in violations(tab) if not fault.startswith(NOT_OF_MAILS)]
    tab.resize(375, 740)
    tab.picture(tmp_path / f"{file.template_key}-{language}-phone.png")
    faults["phone"] = [] if tab.js("document.documentElement.scrollWidth") <= 375 else ["it is scrolled sideways"]

    assert {what: found for what, found in faults.items() if found} == {}


NOT_OF_MAILS = ("region", "landmark-one-main")
"""A mail is shown inside of a page that has its landmarks already."""
