"""The jobs that ask the providers what became of a message."""

from notifyctl.worker.job_context import JobContext


def reconcile_doubts(context: JobContext) -> str:
    """What a worker does every 2 seconds anyway; they share the messages, so that none is asked about twice."""
    from notifyctl.delivery.reconcile import Reconciler

    runtime = context.runtime
    reconciler = Reconciler(
        lookups=context.lookups,
        database=runtime.database,
        clock=context.clock,
        keys=runtime.keys,
        owner=context.worker,
    )
    asked = 0
    while not context.stopping() and (count := reconciler.run()):
        asked += count
    return f"{asked} messages in doubt were asked about"


def ask_for_receipts(context: JobContext) -> str:
    from notifyctl.delivery.missing_receipts import ask_missing

    runtime = context.runtime
    return str(ask_missing(runtime.database, context.clock, runtime.keys, context.lookups, stopping=context.stopping))
