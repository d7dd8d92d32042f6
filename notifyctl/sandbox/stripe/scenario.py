"""A made-up purchase that Stripe's events are drawn from: what is bought, by whom, and the ids that Stripe gives to it.

Every id comes from the client's, so that all events of a client fit together, whenever they were made.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

RETRY_AFTER = timedelta(days=3)
MONTH = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeScenario:
    """What is bought, by whom, and which moment of it an event tells of. `amount` is in the currency's minor unit."""

    client_id: str
    now: datetime
    customer_id: str | None = None
    """Made from client_id where it is None."""
    price: str = "pro_monthly"
    """A price's id (price_…), a product's (prod_…), or a lookup key."""
    amount: int = 4900
    currency: str = "eur"
    invoice: int = 1
    """The subscription's first invoice, or that of a renewal."""
    attempt: int = 1
    cause: str = "cancellation_requested"
    is_unpaid: bool = False
    """A checkout that waits for a slow payment."""
    livemode: bool = True
    is_old: bool = False
    """The shape of before 2025-03-31."""

    @property
    def customer(self) -> str:
        return self.customer_id or f"cus_{self._made('customer', 14)}"

    @property
    def subscription_id(self) -> str:
        return f"sub_{self._made('subscription 1', 24)}"

    @property
    def item_id(self) -> str:
        return f"si_{self._made('item 1', 14)}"

    @property
    def invoice_id(self) -> str:
        return f"in_{self._made(f'invoice 1.{self.invoice}', 24)}"

    @property
    def payment_id(self) -> str:
        return f"pi_{self._made(f'payment 1.{self.invoice}', 24)}"

    @property
    def session_id(self) -> str:
        return f"cs_{'live' if self.livemode else 'test'}_{self._made('session 1', 58)}"

    @property
    def price_id(self) -> str:
        return self.price if self.price.startswith("price_") else f"price_{letters(f'price {self.price}', 24)}"

    @property
    def product_id(self) -> str:
        return self.price if self.price.startswith("prod_") else f"prod_{letters(f'product {self.price}', 14)}"

    @property
    def lookup_key(self) -> str | None:
        return None if self.price.startswith(("price_", "prod_")) else self.price

    @property
    def email(self) -> str:
        is_plain = re.fullmatch(r"[a-z0-9][a-z0-9-]{0,50}[a-z0-9]", self.client_id)
        return f"billing@{self.client_id if is_plain else 'client'}.example"

    @property
    def created(self) -> int:
        return int(self.now.timestamp())

    @property
    def started(self) -> int:
        return int((self.now - MONTH * (self.invoice - 1)).timestamp())

    @property
    def period_end(self) -> int:
        return int((self.now + MONTH).timestamp())

    @property
    def metadata(self) -> dict[str, str]:
        return {"client_id": self.client_id}

    @property
    def retries_at(self) -> int:
        return int((self.now + RETRY_AFTER).timestamp())

    def _made(self, what: str, length: int) -> str:
        return letters(f"{self.client_id} {what}", length)


def letters(seed: str, length: int) -> str:
    return hashlib.sha512(seed.encode()).hexdigest()[:length]
