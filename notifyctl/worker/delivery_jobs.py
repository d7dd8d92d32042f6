"""The jobs that ask the providers what became of a message."""

from notifyctl.delivery.missing_receipts import ask_missing
from notifyctl.delivery.reconcile import Reconciler
from notifyctl.worker.job_context import JobContext


def reconcile_doubts(context: JobContext) -> str:
    """What a worker does every 2 seconds anyway; they share the messages, so that none is asked about twice."""
    runtime = context.runtime
    reconciler = Reconciler(
        lookups=context.lookups,
        database=runtime.database,
        clock=runtime.clock,
        keys=runtime.keys,
        owner=context.worker,
    )
    messages = 0
    while not context.stopping() and (count := reconciler.run()):
        messages += count
    return f"{messages} messages in doubt were asked about"


def ask_for_receipts(context: JobContext) -> str:
    runtime = context.runtime
    return str(ask_missing(runtime.database, runtime.clock, runtime.keys, context.lookups, stopping=context.stopping))
