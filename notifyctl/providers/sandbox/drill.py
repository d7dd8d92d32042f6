"""The faults in force on one channel, with the dice that say whom they strike."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from notifyctl.models.template import Channel
from notifyctl.providers.sandbox.failures import codes_of
from notifyctl.providers.sandbox.faults import Fault, Faults


@dataclass(frozen=True, slots=True)
class Strike:
    """What befalls one call: a delay, then the fault if there is one."""

    fault: Fault | None
    seconds: float = 0.0


class Drill:
    """Used by the server's thread alone; `struck` may be read by any."""

    def __init__(self, channel: Channel, faults: Faults) -> None:
        self.faults = faults
        self._of_call = faults.of_call
        self._of_message = faults.of_message
        self._latencies = faults.latencies
        self._codes = {fault: codes_of(channel, fault.code or 0) for fault in self._of_message}
        self.start_over()

    def start_over(self) -> None:
        """The next call is the first one again."""
        # Draws of their own, so that a batch with another number of items does not shift what the calls meet.
        self._call_dice = Random(self.faults.seed)  # noqa: S311
        self._message_dice = Random(self.faults.seed + 1)  # noqa: S311
        self.struck: Counter[Fault] = Counter()

    def of_call(self) -> Strike | None:
        dice = self._call_dice
        fault = self._drawn(self._of_call, dice)
        seconds = 0.0
        for latency in self._latencies:
            if latency.ms and self._drawn((latency,), dice):
                seconds += dice.uniform(*latency.ms) / 1000
        return Strike(fault, seconds) if fault or seconds else None

    def of_message(self) -> int | None:
        """The provider's code that one message is refused with; None: it is not."""
        if not self._of_message:
            return None
        fault = self._drawn(self._of_message, self._message_dice)
        return self._message_dice.choice(self._codes[fault]) if fault else None

    def _drawn(self, faults: Sequence[Fault], dice: Random) -> Fault | None:
        """One draw for all, so that their rates are exact shares. What is used up leaves its place to the next."""
        if not faults:
            return None
        drawn, bound = dice.random(), 0.0
        for fault in faults:
            if fault.times is not None and self.struck[fault] >= fault.times:
                continue
            bound += fault.rate
            if drawn < bound:
                self.struck[fault] += 1
                return fault
        return None
