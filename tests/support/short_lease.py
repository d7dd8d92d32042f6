"""notifyctl in which a lease has SECONDS seconds: `python short_lease.py worker …`.

The law is the same, and what a lost commit leaves behind is taken up in a quarter of the time.
"""

from datetime import timedelta

from notifyctl.delivery import claims

SECONDS = 12
claims.LEASE = timedelta(seconds=SECONDS)

from notifyctl.cli.main import main  # noqa: E402  what is imported from here on finds that lease
from notifyctl.worker import worker  # noqa: E402

if __name__ == "__main__":
    worker.UPKEEP_SECONDS = 2.0
    main()
