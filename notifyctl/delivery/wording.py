"""What a claimed message says: its values opened, and its version of the template rendered."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlmodel import Session

from notifyctl import errors
from notifyctl.delivery.claims import Claim
from notifyctl.errors import NotifyctlError
from notifyctl.keyring import KeyRing, SealedContext
from notifyctl.models.enums import FailureReason
from notifyctl.models.template import TemplateSource
from notifyctl.providers.contract import OutboundMessage, Rejected
from notifyctl.templates import store as template_store
from notifyctl.templates.render import Renderer, RenderError

log = logging.getLogger("notifyctl.delivery")


class Wording:
    """One of a loop; it keeps the versions that it has met, which never change."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._renderer = Renderer()
        self._sources: dict[tuple[str, int], TemplateSource] = {}

    def load(self, session: Session, claimed: Sequence[Claim]) -> None:
        """The versions that are not known yet."""
        versions = {(item.message.template_key, item.message.template_version) for item in claimed}
        if missing := versions - self._sources.keys():
            self._sources |= template_store.sources(session, missing)

    def render(self, item: Claim) -> OutboundMessage | Rejected:
        message = item.message
        try:
            return self._rendered(item)
        except Exception as error:  # noqa: BLE001  too deep, no memory: the others of its claim go on
            if isinstance(error, NotifyctlError):
                return Rejected(FailureReason.RENDER_ERROR, "", str(error))
            errors.report(log, "message cannot be rendered", error, message_id=message.id)
            return Rejected(FailureReason.RENDER_ERROR, "", f"It cannot be rendered: {errors.describe(error)}")

    def _rendered(self, item: Claim) -> OutboundMessage:
        message = item.message
        context = context_of(self._keys, message)
        source = self._sources.get((message.template_key, message.template_version))
        if source is None:
            raise RenderError(f"version {message.template_version} of {message.template_key} is gone from the store")
        content = self._renderer.render(source, context)
        assert message.recipient is not None
        return OutboundMessage(
            message_id=message.id,
            template_key=message.template_key,
            recipient=message.recipient,
            text=content.text,
            subject=content.subject,
            html=content.html,
            held_key=message.held_key,
        )


class HasContext(Protocol):
    """A message with the row that its context is in."""

    @property
    def id(self) -> str: ...

    @property
    def context(self) -> str | None: ...

    @property
    def sealed(self) -> str | None: ...

    @property
    def key_id(self) -> str | None: ...


def context_of(keys: KeyRing, message: HasContext) -> Mapping[str, object]:
    """The values for its template. Raises SealError or ValueError."""
    if message.sealed is not None:
        return keys.open(SealedContext(message.key_id or "", message.sealed), message_id=message.id)
    context: dict[str, object] = json.loads(message.context or "{}")
    return context
