"""The job that works on Stripe's events again: what failed, what nobody finished, and what has a client by now."""

from notifyctl.worker.job_context import JobContext


def retry_stripe_events(context: JobContext) -> str:
    """Each in its own transaction. One that fails again says so on its row; the others and the job go on."""
    return str(context.runtime.billing.retry(stopping=context.stopping))
