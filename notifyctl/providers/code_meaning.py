"""What one of a provider's error codes means to us."""

from dataclasses import dataclass

from notifyctl.models.enums import FailureReason, SuppressionReason


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """`transient`: nothing went out, and trying again later may help. `suppress`: never write there again."""

    reason: FailureReason
    remark: str
    transient: bool = False
    suppress: SuppressionReason | None = None
