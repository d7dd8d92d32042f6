"""What a shell completes besides commands, options and enums. Where anything is wrong, it completes nothing."""

from collections.abc import Callable, Iterable

import typer
from sqlmodel import Session

from notifyctl.cli.invocation import Invocation, invocation
from notifyctl.cli.runtime import opened_runtime
from notifyctl.clients import store as client_store
from notifyctl.http import api_key_store
from notifyctl.orchestrator import message_store
from notifyctl.orchestrator.explain import SHORT
from notifyctl.orchestrator.filters import LAST
from notifyctl.orchestrator.message_store import MessageFilter
from notifyctl.templates import store as template_store

Ask = Callable[[Session, str], Iterable[str]]
Completion = Callable[[typer.Context, str], list[str]]
MOST = 50


def among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Of names that are always the same."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        return _beginning(known, incomplete)

    return complete


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _stored(ask: Ask) -> Completion:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        # The root command has not run: nobody has told yet where the settings are.
        token = invocation.set(Invocation(env_file=ctx.find_root().params.get("env_file")))
        try:
            with opened_runtime(migrated=False) as runtime, runtime.database.read() as session:
                return _beginning(ask(session, incomplete), incomplete)
        except Exception:  # noqa: BLE001  whatever it is, a person who types must not be answered with it
            return []
        finally:
            invocation.reset(token)

    return complete


def _clients(session: Session, incomplete: str) -> list[str]:
    exact = [incomplete] if client_store.get(session, incomplete) else []
    return [*exact, *(row.id for row in client_store.page(session, limit=MOST, after=incomplete))]


def _messages(session: Session, _: str) -> list[str]:
    return [LAST, *(row.id[-SHORT:] for row in message_store.find(session, MessageFilter(), limit=MOST))]


templates = _stored(lambda session, _: [template.template_key for template in template_store.everything(session)])
clients = _stored(_clients)
messages = _stored(_messages)
keys = _stored(lambda session, _: [key.name for key in api_key_store.every(session)])
