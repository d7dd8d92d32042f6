"""What is wrong now, in words: what an operator wants to read first. Pure.

Of what the spike monitor remembers only since when a channel fails is told. All else is asked of the store as it is
now: what was so five minutes ago, said as if it were so still, sends people after faults that are over.
"""

from collections.abc import Iterator, Sequence

from notifyctl.alerts.spikes.levels import MAX_DUE, percent_of
from notifyctl.health import upkeep
from notifyctl.health.summary import Health, Spike
from notifyctl.models.enums import Channel, MessageStatus, SpikeLevel
from notifyctl.operations.pauses import PauseScope
from notifyctl.operations.problem import Code, Gravity, Problem, ordered
from notifyctl.providers.registry import PROVIDERS
from notifyctl.text.durations import exact_duration, moment, plural, rough_duration

DRAIN_TOO_LONG_SECONDS = 15 * 60
MANY_UNCONFIRMED = 20
NOTES_SHOWN = 3
_GRAVITY = {SpikeLevel.WARN: Gravity.WARNING, SpikeLevel.CRITICAL: Gravity.CRITICAL}


def problems(health: Health) -> list[Problem]:
    """What is wrong, the gravest first; empty when nothing is."""
    waiting = sum(backlog.pending + backlog.retrying for backlog in health.backlog.values())
    stalled = max(_stalled(health, channel) for channel in Channel)
    return ordered(
        [
            *upkeep.problems(health.installation, waiting=waiting, overdue_seconds=stalled),
            *upkeep.untold(health.installation),
            *(problem for channel in Channel for problem in _of_channel(health, channel)),
            *_slow(health),
            *_in_doubt(health),
            *_held(health),
            *_unconfirmed(health),
            *upkeep.sandbox(health.installation),
        ]
    )


def folded(wrong: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """What is shown, and notes behind a fold: forty pauses must not push the figures off the screen."""
    grave = [problem for problem in wrong if problem.gravity is not Gravity.NOTE]
    notes = [problem for problem in wrong if problem.gravity is Gravity.NOTE]
    # One more than what is shown would fold away a single line behind another.
    shown = notes if len(notes) <= NOTES_SHOWN + 1 else notes[:NOTES_SHOWN]
    return [*grave, *shown], notes[len(shown) :]


def _of_channel(health: Health, channel: Channel) -> Iterator[Problem]:
    """One line a cause: with its provider down, messages fail and wait, and no worker is to blame."""
    spike = next((spike for spike in health.spikes if spike.channel == channel), None)
    if channel in health.open_breakers:
        yield _provider_down(health, channel)
        return
    if (waits := _stalled(health, channel)) and health.workers:
        text = (
            f"{channel}: the oldest message that is due has waited for {rough_duration(waits)}, and a worker is running"
        )
        yield Problem(Gravity.CRITICAL, text, Code.STANDSTILL, "look at the worker's log", channel)
    if failing := _failure_problem(health, channel, spike):
        yield failing
    elif spike is not None:
        yield _recovery_problem(health, channel, spike)
    else:
        yield from _failed_before(health, channel)


def _stalled(health: Health, channel: Channel) -> int:
    """For how many seconds messages have been due that somebody should have sent; 0 while that is not long."""
    waits = health.stalled_seconds(channel)
    is_down = channel in health.open_breakers and health.installation.is_run
    return waits if waits > MAX_DUE.total_seconds() and not is_down else 0


def _provider_down(health: Health, channel: Channel) -> Problem:
    since = health.open_since.get(channel)
    begun = f" since {moment(since, beside=health.until)}" if since else ""
    text = f"{channel}: its provider is taken for down{begun} ({_in_brief(health.open_breakers[channel])})"
    lately, backlog = health.lately[channel], health.backlog[channel]
    parts = []
    if lately.failed:
        span = exact_duration(int(health.thresholds.window.total_seconds()))
        parts.append(
            f"{lately.failed:,} of {plural(lately.failed + lately.sent, 'message')} tried in the last {span} failed"
        )
    if waiting := backlog.pending + backlog.retrying:
        waits = health.stalled_seconds(channel)
        since_when = f", the oldest for {rough_duration(waits)}" if waits else ""
        parts.append(f"{plural(waiting, 'message waits', 'messages wait')}{since_when}")
    text = "; ".join([text, *parts])
    remedy = f"look at {PROVIDERS[channel].status_page}; {_who_probes(health, channel)}"
    return Problem(Gravity.CRITICAL, text, Code.PROVIDER_DOWN, remedy, channel, since)


def _in_brief(said: str) -> str:
    """What was said last, without what explains it: that is on each message."""
    return said.split(" (")[0]


def _who_probes(health: Health, channel: Channel) -> str:
    """What opens the way again, and whether anybody is about to do it."""
    if not health.installation.is_run:
        return "nobody probes it while no worker is running"
    if any(pause.scope == PauseScope(channel) for pause in health.paused):
        return "nobody probes it while the channel is paused"
    if not health.backlog[channel].pending + health.backlog[channel].retrying:
        return "the next message will probe it"
    return "one message probes it at a time, and the others keep their retries"


def _failure_problem(health: Health, channel: Channel, spike: Spike | None) -> Problem | None:
    lately = health.lately[channel]
    gravity = _GRAVITY.get(health.thresholds.level(lately.failed, lately.sent))
    if gravity is None:
        return None
    since = spike.since if spike else None
    begun = f" since {moment(since, beside=health.until)}" if since else ""
    text = f"{channel} is failing{begun}: {_lately(health, channel)}"
    remedy = f"`notifyctl messages list --status {_where_now(health, channel)}` shows which; `messages explain ID` why"
    return Problem(gravity, text, Code.FAILING, remedy, channel, since)


def _where_now(health: Health, channel: Channel) -> MessageStatus:
    """Where those whose attempts failed are found: an outage has FAILED ones only after the first retries."""
    did, waits = health.traffic[channel], health.backlog[channel]
    counts = {
        MessageStatus.FAILED: did.failed,
        MessageStatus.RETRY_SCHEDULED: waits.retrying,
        MessageStatus.IN_DOUBT: waits.in_doubt,
        MessageStatus.BOUNCED: did.bounced,
    }
    return next((status for status, count in counts.items() if count), MessageStatus.FAILED)


def _lately(health: Health, channel: Channel) -> str:
    """In the words of the monitor's rate, which is another one than that of the window's figures."""
    lately = health.lately[channel]
    tried = lately.failed + lately.sent
    percent = percent_of(lately.failed, lately.sent)
    span = exact_duration(int(health.thresholds.window.total_seconds()))
    text = f"attempts at {lately.failed:,} of {plural(tried, 'message')} failed in the last {span} ({percent:.1f}%)"
    if not lately.sent_since or lately.last_failed_at is None:
        return text
    sent = plural(lately.sent_since, "was sent", "were sent")
    return f"{text}; none failed after {moment(lately.last_failed_at, beside=health.until)}, and {sent}"


def _recovery_problem(health: Health, channel: Channel, spike: Spike) -> Problem:
    since = moment(spike.since, beside=health.until)
    if health.lately[channel].sent:
        text = f"{channel} has recovered, having failed since {since}: the monitor's next run will call it over"
        return Problem(Gravity.NOTE, text, Code.RECOVERING, "", channel, spike.since)
    text = f"{channel} was failing since {since}, and nothing has been sent lately that would show that it is over"
    remedy = "`notifyctl templates send KEY --to ADDRESS` sends one as a test"
    return Problem(_GRAVITY[SpikeLevel(spike.level)], text, Code.RECOVERING, remedy, channel, spike.since)


def _failed_before(health: Health, channel: Channel) -> Iterator[Problem]:
    """Too many in the window that is looked at, though too few lately for the monitor: a trickle, or what is over."""
    did = health.traffic[channel]
    if health.thresholds.level(did.failed, did.sent) is SpikeLevel.OK:
        return
    span = exact_duration(int((health.until - health.since).total_seconds()))
    text = f"{channel}: {did.failed:,} of {did.failed + did.sent:,} failed in the last {span} ({did.failure_rate:.1%})"
    if health.lately[channel].failed:
        yield Problem(Gravity.WARNING, text, Code.FAILING, "", channel)
    else:
        lately = exact_duration(int(health.thresholds.window.total_seconds()))
        yield Problem(Gravity.NOTE, f"{text}, and none in the last {lately}", Code.FAILING, "", channel)


def _in_doubt(health: Health) -> Iterator[Problem]:
    count = sum(backlog.in_doubt for backlog in health.backlog.values())
    if count:
        text = f"{plural(count, 'message')} may have gone out without an answer; the providers are being asked"
        yield Problem(Gravity.NOTE, text, Code.IN_DOUBT)


def _held(health: Health) -> Iterator[Problem]:
    for pause in health.paused:
        since = moment(pause.since, beside=health.until)
        held = plural(pause.held, "message")
        text = f"{pause.scope} is paused since {since} by {pause.actor}: {pause.reason} ({held} held)"
        channel = Channel(pause.channel) if pause.channel else None
        yield Problem(
            Gravity.NOTE, text, Code.PAUSED, f"`{pause.scope.command('resume')}` lets it go", channel, pause.since
        )


def _slow(health: Health) -> Iterator[Problem]:
    if health.drains_in_seconds > DRAIN_TOO_LONG_SECONDS:
        text = f"the backlog will be gone in {rough_duration(health.drains_in_seconds)} at today's limits"
        yield Problem(Gravity.WARNING, text, Code.BACKLOG_SLOW, "`notifyctl limits` shows and sets them")


def _unconfirmed(health: Health) -> Iterator[Problem]:
    if health.unconfirmed >= MANY_UNCONFIRMED:
        text = f"{plural(health.unconfirmed, 'message')} of the last day have no receipt"
        yield Problem(Gravity.NOTE, text, Code.NO_RECEIPTS, "`notifyctl doctor` says whether any came")
