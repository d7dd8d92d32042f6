"""Which secret keys the stored rows need, by the ids that they carry."""

from sqlalchemy import Executable, func, select
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import FINAL, MessageLog, MessagePayload
from notifyctl.models.suppression import Suppression

_message = table(MessageLog)
_payload = table(MessagePayload)
_suppression = table(Suppression)


def count_suppressions(session: Session) -> dict[str, int]:
    """Key id -> how many suppressions are found by it."""
    key = _suppression.c.key_id
    return _counts(session, select(key, func.count()).group_by(key))


def count_unfinished(session: Session) -> dict[str, int]:
    """Key id -> how many messages that are not finished are sealed with it."""
    key = _payload.c.key_id
    sealed = select(key, func.count()).join(_message, _message.c.id == _payload.c.message_id)
    return _counts(session, sealed.where(key.is_not(None), _message.c.status.not_in(FINAL)).group_by(key))


def _counts(session: Session, statement: Executable) -> dict[str, int]:
    return {key: count for key, count in session.execute(statement)}
