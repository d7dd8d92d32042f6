"""notifyctl in which a lease has SECONDS seconds: `python short_lease.py worker …`.

The law is the same: what a lost commit leaves behind is taken up in a quarter of the time, and systemd's watchdog loses
its patience sooner.
"""

from datetime import timedelta

from notifyctl.delivery import claims

SECONDS = 12
STUCK_SECONDS = 3.0
claims.LEASE = timedelta(seconds=SECONDS)

from notifyctl.cli.main import main  # noqa: E402  what is imported from here on finds that lease
from notifyctl.worker import worker  # noqa: E402  the same

if __name__ == "__main__":
    worker.UPKEEP_SECONDS = 2.0
    worker.STUCK_SECONDS = STUCK_SECONDS
    main()
