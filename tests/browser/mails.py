"""A company's mails, as a browser is given them."""

from base64 import b64encode

from notifyctl.models.enums import Channel
from notifyctl.models.message import TEST_TEMPLATES
from notifyctl.templates import catalogue
from notifyctl.templates.files import TemplateFile
from notifyctl.templates.render import Renderer, about
from tests.support.settings import make_settings

LOGO_URL = "https://www.acme.example/logo.svg"
_LOGO = b"""<svg xmlns="http://www.w3.org/2000/svg" width="148" height="48"><rect width="48" height="48" rx="11"
fill="#0b6b3a"/><path d="M13 34 24 13l11 21M17 27h14" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round"
stroke-linejoin="round"/><text x="60" y="34" font-family="Inter, Arial, sans-serif" font-size="28" font-weight="700"
fill="#12301f">Acme</text></svg>"""
BRAND = {
    "brand_name": "Acme",
    "brand_logo_url": LOGO_URL,
    "brand_color": "#0b6b3a",
    "brand_url": "https://www.acme.example",
    "brand_address": "1 Harbour Street, London E1 6AN",
    "brand_imprint": "Acme Ltd, company no. 01234567",
    "support_email": "help@acme.example",
}


def mails(**brand: str) -> dict[str, TemplateFile]:
    """All there are, by key, but for the test, which has the words of another."""
    files = catalogue.files_of(make_settings(**brand))
    emails = (file for file in files if file.front.channel is Channel.EMAIL)
    return {file.template_key: file for file in emails if file.template_key not in TEST_TEMPLATES.values()}


def page(file: TemplateFile, language: str) -> str:
    """Whole by itself: the logo is in it."""
    html = Renderer().render(file.source, file.example | about(language, language)).html or ""
    return html.replace(LOGO_URL, f"data:image/svg+xml;base64,{b64encode(_LOGO).decode()}")
