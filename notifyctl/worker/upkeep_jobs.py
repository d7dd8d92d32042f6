"""The jobs that seal what was written, and remove what is old."""

from notifyctl.worker.job_context import JobContext


def seal_audit_rows(context: JobContext) -> str:
    """What it returns has the head of the chain in it, and so has the log: that takes it to another place."""
    from notifyctl.orchestrator.audit_chain import SealKeys
    from notifyctl.orchestrator.audit_seal import seal

    runtime = context.runtime
    keys = SealKeys(runtime.settings.notification_secret_key)
    return str(seal(runtime.database, keys, context.clock, stopping=context.stopping))


def remove_what_is_old(context: JobContext) -> str:
    """Raises NotifyctlError where audit rows are old enough and do not verify; all else is removed then."""
    from notifyctl.delivery.retention import Retention
    from notifyctl.errors import NotifyctlError

    runtime = context.runtime
    retention = Retention(
        runtime.database, runtime.settings, context.clock, actor=context.worker, stopping=context.stopping
    )
    outcome = retention.run()
    if outcome.audit_problem is not None:
        raise NotifyctlError(
            f"no audit row was removed, since {outcome.audit_problem.text}; see `notifyctl audit verify`."
            f" Of the rest: {outcome.removed}"
        )
    return str(outcome.removed)
