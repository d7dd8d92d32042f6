"""The jobs that seal what was written, and remove what is old."""

from notifyctl.delivery.retention import Retention
from notifyctl.errors import NotifyctlError
from notifyctl.orchestrator.audit_chain import SealKeys
from notifyctl.orchestrator.audit_seal import seal
from notifyctl.worker.job_context import JobContext


def seal_audit_rows(context: JobContext) -> str:
    """What it returns has the head of the chain in it, and so has the log: that takes it to another place."""
    runtime = context.runtime
    keys = SealKeys(runtime.settings.notification_secret_key)
    return str(seal(runtime.database, keys, runtime.clock, stopping=context.stopping))


def remove_what_is_old(context: JobContext) -> str:
    """Raises NotifyctlError where audit rows are old enough and do not verify; all else is removed then."""
    runtime = context.runtime
    report = Retention(
        runtime.database, runtime.settings, runtime.clock, actor=context.worker, stopping=context.stopping
    ).run()
    if report.audit_problem is not None:
        raise NotifyctlError(
            f"no audit row was removed, since {report.audit_problem.text}; see `notifyctl audit verify`."
            f" Of the rest: {report.removed}"
        )
    return str(report.removed)
