"""Whose certificates are trusted: the shipped list of public authorities, or bundles of one's own.

A bundle takes the list's place, as it does for curl, requests and OpenSSL, which the variables' names are from. What
any of the variables names is trusted: an image tends to set one of them to its system's list, and whoever then sets
another for an authority of their own means both.
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from notifyctl.errors import ProviderError
from notifyctl.settings import Settings

ADVICE = (
    "for an authority of your own, or of a proxy that inspects TLS, name a file with its certificate in SSL_CERT_FILE"
)


@dataclass(frozen=True, slots=True)
class Authorities:
    """PEM files, or folders as OpenSSL's `rehash` makes them. `variables` named them; none for the shipped list."""

    paths: tuple[str, ...]
    variables: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        return [path for path in self.paths if not os.path.isdir(path)]

    @property
    def folders(self) -> list[str]:
        return [path for path in self.paths if os.path.isdir(path)]

    def pem(self) -> bytes:
        """All the files as one."""
        return b"\n".join(Path(file).read_bytes() for file in self.files)

    def __str__(self) -> str:
        named = [f"{variable} {path}" for variable, path in zip(self.variables, self.paths, strict=False)]
        return " and ".join(named) or "the shipped list of public authorities"


def public_authorities() -> Authorities:
    return Authorities((certifi.where(),))


def trusted_authorities(settings: Settings) -> Authorities:
    """Raises ProviderError that names the variable whose file cannot be read, or has no certificate in it."""
    named = {
        "SSL_CERT_FILE": settings.ssl_cert_file,
        "REQUESTS_CA_BUNDLE": settings.requests_ca_bundle,
        "CURL_CA_BUNDLE": settings.curl_ca_bundle,
    }
    variables: dict[str, str] = {}  # by path: images like to name one file in all of them
    for variable, path in named.items():
        if path is not None and str(path) not in variables:
            _check(variable, str(path))
            variables[str(path)] = variable
    return Authorities(tuple(variables), tuple(variables.values())) if variables else public_authorities()


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
