"""An event's body as support may see it."""

import json

from notifyctl.text.masking import masked_body


def test_what_tells_who_somebody_is_is_masked_and_the_rest_stays() -> None:
    body = {
        "id": "evt_1",
        "created": 1772452800,
        "data": {
            "object": {
                "id": "in_1",
                "amount_due": 4900,
                "customer": "cus_1",
                "customer_email": "anna@acme.example",
                "customer_name": "Anna Ärger",
                "customer_phone": "+491701234534",
                "customer_address": {"line1": "Am Weg 1", "postal_code": "10115", "country": "DE"},
                "description": "For anna@acme.example, call +491701234534",
                "hosted_invoice_url": "https://invoice.stripe.com/i/acct_1/live_secret",
                "lines": {"data": [{"metadata": {"client_id": "acme"}}]},
            }
        },
    }

    shown = masked_body(json.dumps(body).encode())

    for personal in ("anna@", "Anna", "1234534", "Am Weg", "10115", "live_secret"):
        assert personal not in shown
    told = json.loads(shown)["data"]["object"]
    assert (told["id"], told["amount_due"], told["customer"]) == ("in_1", 4900, "cus_1")
    assert told["customer_email"] == "a***@acme.example"
    assert told["description"] == "For a***@acme.example, call +49********34"
    assert told["hosted_invoice_url"] == "https://invoice.stripe.com/***"
    assert told["lines"]["data"][0]["metadata"] == {"client_id": "acme"}


def test_what_is_no_json_is_not_shown() -> None:
    assert masked_body(b"anna@acme.example") == "***"
