"""How long a call to a provider may take. A lease must be longer than the figure of its channel."""

from datetime import timedelta

CONNECT_TIMEOUT = timedelta(seconds=5)

POSTMARK_TIMEOUT = timedelta(seconds=30)
"""From `submit` to the last answer of the batch, also when it has to be sent in parts."""

TWILIO_TIMEOUT = timedelta(seconds=15)
"""From `submit` to the answer of one message."""
