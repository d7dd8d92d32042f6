"""The pipe of one-time codes: the same gates, rows and audit, for OTP_CODE_SMS and for nothing else.

`OneTimeCodes` makes one and keeps it to itself, and a test forbids every other import. So a code is sent only where
its phone was locked, its limits were asked and its guesses will be counted. Nothing in a request opens this way.
"""

from notifyctl.errors import InvalidInput
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator


class CodePipe(NotificationOrchestrator):
    """Raises InvalidInput for any other template."""

    def _admit(self, template_key: str) -> None:
        if template_key != OTP_TEMPLATE:
            raise InvalidInput(f"{template_key} is no one-time code; send it through the orchestrator")
