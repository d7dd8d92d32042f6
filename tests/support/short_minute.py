"""notifyctl in which the minute of the throttle has MINUTE seconds: `python short_minute.py worker …`.

The law is the same, and seen to hold in a fifth of the time.
"""

from datetime import timedelta

from notifyctl.cli.main import main
from notifyctl.delivery.pace import throttle

MINUTE = 12

if __name__ == "__main__":
    throttle.WINDOW -= timedelta(seconds=60 - MINUTE)
    main()
