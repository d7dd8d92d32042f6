"""`notifyctl stripe reconcile`."""

from dataclasses import asdict
from typing import Annotated

import typer

from notifyctl.billing.reconcile import Reconciliation
from notifyctl.billing.replay_sources import SourceFilter
from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import NotifyctlError
from notifyctl.providers.stripe_api import build_stripe_api, other_mode
from notifyctl.text.wording import plural

DIFFERENCE_COLUMNS = ("kind", "id", "what", "client_id", "here", "at_stripe", "mend")
DIFFERENCE_SHOWN = (
    Shown("what", lambda row: f"{row['what']}\n{row['id']}"),
    Shown("client", lambda row: row["client_id"] or ""),
    Shown("here", lambda row: row["here"] or "-"),
    Shown("at Stripe", lambda row: row["at_stripe"] or "-"),
    named("mend"),
)


def reconcile(
    since: Annotated[
        str | None,
        typer.Option("--since", help="Events made since: 2h, 7d, or 2026-03-01T12:00Z. Stripe keeps 30 days."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Events of this type; by default all that do something. Repeatable."),
    ] = None,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Compare with Stripe: events that never came, and subscriptions that stand otherwise. Changes nothing.

    Each difference comes with what mends it. Exit 1 if there is any. Needs STRIPE_API_KEY.
    """
    with opened_runtime() as runtime, build_stripe_api(runtime.settings) as api:
        if warning := other_mode(runtime.settings):
            output.say(warning)
        now = runtime.clock()
        wanted = SourceFilter(types=tuple(types or ()), since=options.parse_moment(since, now) if since else None)
        compared = Reconciliation(runtime.database, runtime.plans, api, now).compare(wanted)
    differences = compared.differences
    output.rows(map(asdict, differences), form, columns=DIFFERENCE_COLUMNS, shown=DIFFERENCE_SHOWN)
    looked_at = f"{plural(compared.events, 'event')} and {plural(compared.subscriptions, 'subscription')} at Stripe"
    if differences:
        differ = plural(len(differences), "difference")
        raise NotifyctlError(f"{looked_at} were compared: {differ}; what mends each stands beside it")
    output.say(f"{looked_at} were compared: no difference.")
