"""Addresses as logs and listings show them: enough to recognise, too little to use."""

_KEPT_START, _KEPT_END = 3, 2


def mask(address: str | None) -> str:
    """`anna@acme.example` -> `a***@acme.example`, `+491701234534` -> `+49********34`, others -> `***`."""
    if not address:
        return ""
    name, at, domain = address.rpartition("@")
    if at:
        return f"{name[:1] if len(name) > 1 else ''}***@{domain}"
    hidden = len(address) - _KEPT_START - _KEPT_END
    if not address.startswith("+") or hidden < _KEPT_START:
        return "***"
    return address[:_KEPT_START] + "*" * hidden + address[-_KEPT_END:]
