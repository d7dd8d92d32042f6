"""Clients with defaults: a test names only what matters to it."""

from typing import Any

from notifyctl.bootstrap import Runtime
from notifyctl.models.client import Client
from notifyctl.models.enums import ProvisioningStatus, SubscriptionStatus


def a_client(runtime: Runtime, client_id: str = "acme", **fields: Any) -> Client:
    """Provisioned, subscribed to PRO, and consenting to SMS unless told otherwise."""
    now = runtime.clock()
    values: dict[str, Any] = {
        "id": client_id,
        "name": client_id.capitalize(),
        "email": f"{client_id}@client.example",
        "phone_e164": "+4915112345678",
        "plan": "PRO",
        "provisioning_status": ProvisioningStatus.COMPLETED,
        "subscription_status": SubscriptionStatus.ACTIVE,
        "sms_enabled": True,
        "created_at": now,
        "updated_at": now,
    }
    client = Client(**(values | fields))
    with runtime.database.transaction() as session:
        session.add(client)
    return client
