"""Whose certificates are trusted: the shipped list of public authorities, or a bundle of one's own.

A bundle takes the list's place, as it does for curl, requests and OpenSSL, which the variables' names are from.
"""

import os
import ssl
from dataclasses import dataclass

import certifi

from notifyctl.errors import ProviderError
from notifyctl.settings import Settings

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The first that is set counts."""
ADVICE = (
    "for an authority of your own, or of a proxy that inspects TLS, name a file with its certificate in SSL_CERT_FILE"
)


@dataclass(frozen=True, slots=True)
class Authorities:
    """A PEM file, or a folder as OpenSSL's `rehash` makes it. `variable` named it; None for the shipped list."""

    path: str
    variable: str | None = None

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.path)

    def __str__(self) -> str:
        return f"{self.variable} {self.path}" if self.variable else "the shipped list of public authorities"


def public_authorities() -> Authorities:
    return Authorities(certifi.where())


def trusted_authorities(settings: Settings) -> Authorities:
    """Raises ProviderError that names the variable whose file cannot be read, or has no certificate in it."""
    for variable in VARIABLES:
        path = getattr(settings, variable.lower())
        if path is not None:
            _check(variable, str(path))
            return Authorities(str(path), variable)
    return public_authorities()


def _check(variable: str, path: str) -> None:
    if os.path.isdir(path):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except FileNotFoundError:
        raise ProviderError(f"{variable} {path}: no such file; name a file of certificates, or unset it") from None
    except ssl.SSLError:
        raise ProviderError(f"{variable} {path}: has no certificate in PEM form; {_FORM}") from None
    except OSError as error:
        raise ProviderError(f"{variable} {path}: cannot be read: {error.strerror}") from None


_FORM = "it must begin -----BEGIN CERTIFICATE----- (openssl x509 -inform DER -in FILE converts another form)"
