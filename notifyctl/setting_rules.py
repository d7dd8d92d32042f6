"""The rules of single settings: from what was written to the form in which it is used.

Each takes and returns text, and raises ValueError that goes on behind the setting's name: what it must be, and how to
mend it. None repeats the value, which may be a secret.
"""

import os
import re
from datetime import time, timedelta

from pydantic import AnyHttpUrl, TypeAdapter, ValidationError

from notifyctl.text import colors
from notifyctl.text.durations import plural

MAX_PORT = 65_535
MIN_SECRET_BYTES = 32
SAMPLE_SECRETS = ("changeme", "change-me", "example", "sample", "secret", "your-", "insecure", "placeholder")
REGIONS = frozenset(
    re.findall(
        r"\w+",
        "AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY"
        " BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ"
        " FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR"
        " IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH"
        " MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK"
        " PL PM PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA"
        " TC TD TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW",
    )
)
"""Those that the library of phone numbers knows, which takes long to import. A test compares."""

_HTTP_URL = TypeAdapter(AnyHttpUrl)
_URL = re.compile(r"https?://(?:[^/?#@]*@)?[^/?#@:]", re.IGNORECASE)
NOT_IN_URL = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WORD = re.compile(r"[!-~]+")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[^\W_](?:[\w-]*[^\W_])?(?:\.[^\W_](?:[\w-]*[^\W_])?)+")
_NAMED_ADDRESS = re.compile(r'(?:"[^"\\]*"|[^"(),:;<>@\[\]\\]*?)\s*<([^<>]*)>')
_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)(?::\d+)?(?:[/?#].*)?", re.IGNORECASE)
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_MAX_DOMAIN = 253
_NOT_IN_NAME = re.compile(r'["\\<>]')
_MAX_BRAND_NAME = 40
MAX_INSTALLATION_NAME = 32
_MAX_LINE = 200
_PHONE_SEPARATORS = re.compile(r"[ ()./\-\u00a0]")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SQLITE = "sqlite:///"
_SEVERAL_HOSTS = re.compile(r"(postgresql(?:\+psycopg)?://)([^/?]*@)?([^/?@]*,[^/?@]*)(/[^?]*)?(?:\?(.*))?")
_NO_PORT = f"has a port that is no number from 1 to {MAX_PORT}"
_FORM = "; write postgresql://user:password@host:5432/name"
_PLACE = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d*))?")
"""A host with its port."""


def plain(text: str) -> str:
    """The first rule of every setting that is text."""
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("is not UTF-8; write it in UTF-8")
    if _CONTROL.search(text.strip()):
        raise ValueError("has a line break or another control character in it; take it out")
    return text.strip()


def word(text: str) -> str:
    """A token, a key, the name of something at a provider's."""
    if not _WORD.fullmatch(text):
        raise ValueError("must be ASCII without blanks, as its provider shows it; copy it again")
    return text


def strong_secret(text: str) -> str:
    count = len(text.encode())
    if count < MIN_SECRET_BYTES:
        raise ValueError(
            f"has {plural(count, 'byte')}, at least {MIN_SECRET_BYTES} are needed; `notifyctl init` writes a fresh one"
        )
    if any(sample in text.lower() for sample in SAMPLE_SECRETS) or len(set(text)) < 10:
        raise ValueError("looks like a sample; `notifyctl init` writes a fresh one")
    return text


def link(text: str) -> str:
    """By the rule of a template's url variable. Browsers' own rules are laxer: `https:app.example` is a URL to them."""
    if NOT_IN_URL.search(text):
        raise ValueError("must be a URL with blanks, quotes and brackets encoded")
    try:
        parsed = _HTTP_URL.validate_python(text) if _URL.match(text) else None
    except ValidationError:
        parsed = None
    if parsed is None:
        raise ValueError("must be a URL such as https://app.example/page")
    return text if text.isascii() else str(parsed)


def link_with_gaps(text: str) -> str:
    link(text.replace("{reference}", "x").replace("{client_id}", "x"))
    return text


def https_link(text: str) -> str:
    """For what stands in every mail: mail programs show no picture that comes in the clear."""
    if not text.lower().startswith("https://"):
        raise ValueError("must be a URL on https, such as https://www.acme.example/logo.png")
    return link(text)


def base_url(text: str) -> str:
    """Paths are put behind it."""
    if "?" in text or "#" in text:
        raise ValueError("must be a URL without a query: paths are put behind it")
    return link(text).rstrip("/")


def domain(text: str) -> str:
    """The host of what may be a URL, in lower case and in its ASCII (IDNA) form: what a browser compares."""
    match = _HOST.fullmatch(text.removeprefix("@"))
    try:
        host = _HTTP_URL.validate_python(f"https://{match[1]}").host if match else None
    except ValidationError:
        host = None
    name = (host or "").lower().removesuffix(".")
    if len(name) > _MAX_DOMAIN or not _DOMAIN.fullmatch(name):
        raise ValueError("must be a domain such as app.example")
    return name


def listen_host(text: str) -> str:
    """An address or a name, without the brackets of IPv6."""
    host = re.sub(r"^https?://|/$", "", text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host.count(":") == 1 or not re.fullmatch(r"[0-9A-Za-z.:_%-]+", host):
        raise ValueError("must be an address such as 127.0.0.1 or 0.0.0.0; the port goes into HTTP_PORT")
    return host


def email_address(text: str) -> str:
    """Alone, or in the brackets behind a name, which is left out."""
    named = _NAMED_ADDRESS.fullmatch(text)
    address = named[1].strip() if named else text
    if not _ADDRESS.fullmatch(address):
        raise ValueError("must be an email address such as ops@acme.example")
    return address


def sender(text: str) -> str:
    """An address, or a name with one: what goes into a header."""
    if "<" in text and not _NAMED_ADDRESS.fullmatch(text):
        raise ValueError('must be an address, or a name with one; write it as "Acme, Inc." <hello@acme.example>')
    email_address(text)
    return text


def brand_name(text: str) -> str:
    """It is put before an address in a header, and begins an SMS."""
    if len(text) > _MAX_BRAND_NAME:
        raise ValueError(f"must be at most {_MAX_BRAND_NAME} characters long: it begins every SMS")
    if _NOT_IN_NAME.search(text):
        raise ValueError('must be a name without ", \\, < and >; write it without them, or with “ and ”')
    return text


def installation_name(text: str) -> str:
    """It begins a line of 80 characters, and what Nagios reads up to the first bar."""
    if len(text) > MAX_INSTALLATION_NAME or "|" in text:
        raise ValueError(f"must be a name of at most {MAX_INSTALLATION_NAME} characters without |, such as acme-prod")
    return text


def named_address(name: str, address: str) -> str:
    """The address behind a name: in quotes, where the name has characters that mean something there."""
    return f"{name} <{address}>" if _NAMED_ADDRESS.fullmatch(f"{name} <{address}>") else f'"{name}" <{address}>'


def line(text: str) -> str:
    if len(text) > _MAX_LINE:
        raise ValueError(f"must be at most {_MAX_LINE} characters long: it stands in one line")
    return text


def brand_color(text: str) -> str:
    """White is written on it, and it on white."""
    color = colors.parse(text)
    if color is None:
        raise ValueError("must be a colour as #1a56db")
    contrast = colors.contrast(color, colors.WHITE)
    if contrast < colors.READABLE:
        raise ValueError(
            f"must be darker to be read on white: its contrast is {contrast:.1f}, and {colors.READABLE} is the least;"
            f" {colors.darkened(color)} is the nearest that will do"
        )
    return color


def phone(text: str) -> str:
    """Only its form; the region of a number without + is another setting."""
    if not re.fullmatch(r"\+?[0-9]{6,15}", _PHONE_SEPARATORS.sub("", text)):
        raise ValueError("must be a phone number; write it as +491701234567")
    return text


def sms_sender(text: str) -> str:
    """What Twilio takes as From: a number in E.164, a short code, or up to 11 characters of a name."""
    number = _PHONE_SEPARATORS.sub("", text)
    if re.fullmatch(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}", number):
        return number
    if re.fullmatch(r"[A-Za-z0-9 &_+-]{1,11}", text) and re.search("[A-Za-z]", text):
        return text
    raise ValueError("must be a number as +15005550006, a short code, or a name of at most 11 letters and digits")


def region(text: str) -> str:
    code = text.upper()
    if code not in REGIONS:
        raise ValueError("must be ISO 3166 codes of countries, such as DE, or GB for the United Kingdom")
    return code


def path(text: str) -> str:
    """`~` stands for the home directory here as well; nothing else is put in the place of anything."""
    if re.search(r"\$\{?\w", text):
        raise ValueError("has a $ in its path, in the place of which nothing is put; write the path itself")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError("begins with ~, and there is no such home directory; write the whole path")
    if "~" in expanded.split("/"):
        raise ValueError("has ~ in the middle of its path, which stands for nothing there; write the path itself")
    return expanded


def database_url(text: str) -> str:
    url = text.replace("postgres://", "postgresql://", 1) if text.startswith("postgres://") else text
    if not re.match(r"(sqlite:///.|postgresql(\+psycopg)?://)", url):
        raise ValueError("must be sqlite:///path or postgresql://user:password@host/name")
    if url.startswith(_SQLITE):
        if "?" in url:
            raise ValueError("has options behind a ?, and none of SQLite's has an effect here; write the path alone")
        return f"{_SQLITE}{path(url.removeprefix(_SQLITE))}"
    return _postgres(url)


def listen_url(text: str) -> str:
    if not re.match(r"postgres(ql(\+psycopg)?)?://", text):
        raise ValueError("must be postgresql://user:password@host/name, of the same database as DATABASE_URL")
    return database_url(text)


def _postgres(url: str) -> str:
    """In the form in which the driver takes several hosts: the options host and port, with commas."""
    # Here, because they take longer to import than all of this module.
    from psycopg.pq import Conninfo
    from sqlalchemy.engine import make_url

    url = _hosts_apart(url)
    try:
        parsed = make_url(url)
        ports = [str(parsed.port)] if parsed.port is not None else []
    except ValueError:
        raise ValueError(f"{_NO_PORT}{_FORM}") from None
    if parsed.database and "@" in parsed.database:
        # What follows the first / is shown in every error about the database.
        raise ValueError("has an @ behind a /; a password with / or @ in it has %2F or %40 in their place")
    known = {default.keyword.decode() for default in Conninfo.get_defaults()}
    for name in parsed.query:
        if name not in known:
            raise ValueError(f"has an option that libpq does not know, {name[:40]}; take it out, or mend its spelling")
    hosts = _listed(parsed.query.get("host", ()))
    if isinstance(parsed.query.get("host"), tuple) or any(_is_with_port(host) for host in hosts):
        places = [_PLACE.fullmatch(host) or ("", host, "") for host in hosts]
        if "port" in parsed.query:
            raise ValueError("has ports both behind its hosts and in the option port; write them in one place")
        hosts, ports = [place[1] for place in places], [place[2] or "" for place in places]
        query = {"host": ",".join(hosts), "port": ",".join(port or "5432" for port in ports)}
        url = parsed.update_query_dict(query).render_as_string(hide_password=False)
    else:
        ports += _listed(parsed.query.get("port", ()))
    if not all(re.fullmatch(r"\d{1,5}", port) and 1 <= int(port) <= MAX_PORT for port in ports if port):
        raise ValueError(f"{_NO_PORT}{_FORM}")
    hosts = hosts or _listed(parsed.host or "")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ValueError(
            f"has {plural(len(hosts), 'host')} and {plural(len(ports), 'port')};"
            " write as many ports as hosts, or one port for all"
        )
    if len(ports) == 1 and len(hosts) > 1:
        for_all = {"host": ",".join(hosts), "port": ",".join(ports * len(hosts))}
        url = parsed.set(host="").update_query_dict(for_all).render_as_string(hide_password=False)
    return url


def _listed(value: str | tuple[str, ...]) -> list[str]:
    return [part for text in ((value,) if isinstance(value, str) else value) for part in text.split(",")]


def _is_with_port(host: str) -> bool:
    return not host.startswith(("/", "@")) and host.count(":") == 1


def _hosts_apart(url: str) -> str:
    """libpq's `host1:port1,host2:port2` as the options host and port."""
    match = _SEVERAL_HOSTS.fullmatch(url)
    if match is None:
        return url
    scheme, user, listed, name, options = match.groups(default="")
    if ":" not in listed:
        return url  # the driver takes them as they are
    places = [_PLACE.fullmatch(place) for place in listed.split(",")]
    if not all(places):
        raise ValueError(f"{_NO_PORT}{_FORM}")
    hosts, ports = zip(*((place[1].strip("[]"), place[2] or "5432") for place in places if place), strict=True)
    query = f"host={','.join(hosts)}&port={','.join(ports)}"
    return f"{scheme}{user}{name or '/'}?{query}{'&' if options else ''}{options}"


def days(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("must be days from 0 to 9999, separated by commas, for example 30,14,7")
    return text


def rate(text: str) -> str:
    parse_rate(text)
    return text


def hours(text: str) -> str:
    begin, end = parse_hours(text)
    return f"{begin:%H:%M}-{end:%H:%M}"


def parse_rate(text: str) -> tuple[int, timedelta]:
    """`3/30m` -> (3, 30 minutes). Raises ValueError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,4})([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError("must be COUNT/WINDOW, for example 3/30m")
    return int(match[1]), timedelta(seconds=int(match[2]) * _UNITS[match[3]])


def parse_hours(text: str) -> tuple[time, time]:
    """`21:00-08:00`, from and to. Raises ValueError for anything else."""
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text.replace(" ", ""), re.ASCII)
    if match is None:
        raise ValueError("must be HH:MM-HH:MM, for example 21:00-08:00; 00:00-00:00 is never quiet")
    return time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
