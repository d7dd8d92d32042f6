"""What a message said: rendered once more from its values while they are kept, and never where they are secret."""

import json
from dataclasses import dataclass

from sqlmodel import Session

from notifyctl.orchestrator import payload_store
from notifyctl.orchestrator.message_store import MessageRow
from notifyctl.templates import store as template_store
from notifyctl.templates.render import Content, Renderer, RenderError
from notifyctl.text.durations import sentence

FRAME_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_renderer = Renderer()


@dataclass(frozen=True, slots=True)
class Words:
    content: Content | None
    missing: str = ""
    """Why there is none, in a sentence."""

    @property
    def framed(self) -> str:
        """The mail's own page for a sandboxed frame. Its policy comes first, so that no image tells who reads it."""
        html = self.content.html if self.content else None
        return f'<meta http-equiv="Content-Security-Policy" content="{FRAME_POLICY}">{html}' if html else ""


def read_words(session: Session, message: MessageRow) -> Words:
    template = template_store.by_key(session, [message.template_key]).get(message.template_key)
    if template is None or template.sensitive:
        return Words(None, "What it said is secret: its values were encrypted, and are erased when it is done.")
    values = payload_store.in_the_clear(session, message.id)
    if values is None:
        return Words(None, "Its values are no longer kept, and what it said cannot be shown without them.")
    version = (message.template_key, message.template_version)
    source = template_store.sources(session, [version]).get(version)
    if source is None:
        return Words(None, f"Version {message.template_version} of its template is gone.")
    try:
        return Words(_renderer.render(source, json.loads(values)))
    except RenderError as error:
        return Words(None, sentence(str(error)))
