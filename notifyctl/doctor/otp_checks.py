"""What `notifyctl doctor` looks at in one-time codes: one function a check, named as its row."""

from datetime import timedelta

from notifyctl.doctor.doctor import Finding, Installation, Status
from notifyctl.otp.codes import PepperRing
from notifyctl.store import otp

DAY, TIME_TO_TYPE = timedelta(hours=24), timedelta(minutes=10)
ENOUGH_CODES, LEAST_USED = 50, 0.2


def otp_countries(installation: Installation) -> Finding:
    if not installation.settings.otp_allowed_countries:
        return Finding(
            Status.WARN,
            "OTP_ALLOWED_COUNTRIES is empty: codes can be sent anywhere, at your cost (SMS pumping)",
            "set it to the countries of your clients, such as DE,AT,CH",
        )
    return Finding()


def otp_peppers(installation: Installation) -> Finding:
    known = PepperRing(installation.settings.otp_pepper).ids
    with installation.database.read() as session:
        in_use = otp.keys_in_use(session, installation.database.clock())
    forgotten = {key: count for key, count in in_use.items() if key not in known}
    if not forgotten:
        return Finding()
    return Finding(
        Status.WARN,
        f"OTP_PEPPER lacks the pepper of {sum(forgotten.values())} phones with wrong codes or a lock"
        f" (key {', '.join(sorted(forgotten))}): all that is forgotten",
        "put the old pepper back into OTP_PEPPER, behind the new one and separated by a comma, for a day",
    )


def otp_conversion(installation: Installation) -> Finding:
    """Codes that nobody types in are what SMS pumping looks like."""
    until = installation.database.clock() - TIME_TO_TYPE
    with installation.database.read() as session:
        made, used = otp.conversion(session, until - DAY, until)
    if made < ENOUGH_CODES or used >= LEAST_USED * made:
        return Finding()
    return Finding(
        Status.WARN,
        f"of {made} codes of the last 24 h only {used} were used",
        "if these are no people, set OTP_ALLOWED_COUNTRIES, OTP_PREFIX_HOURLY_LIMIT and OTP_GLOBAL_HOURLY_LIMIT",
    )
