"""Sending a code, within the budgets of its country, its prefix and all codes together."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import phonenumbers
from sqlmodel import Session

from notifyctl.models.enums import AuditAction, BlockReason, OtpState
from notifyctl.models.message import OTP_TEMPLATE
from notifyctl.orchestrator.requests import Blocked, Decision, Queued, SendRequest
from notifyctl.otp import store
from notifyctl.otp.codes import new_challenge_id, new_code
from notifyctl.otp.phone_state import SOURCE, PhoneSession, PhoneState, lock_details
from notifyctl.otp.store import CodeRow
from notifyctl.settings import Settings
from notifyctl.text.durations import plural
from notifyctl.text.locales import is_known

HOUR = timedelta(hours=1)
NETWORK_DIGITS = 3
"""Digits behind the country code that tell a network or an area."""
_PREMIUM_RATE = (phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST)


def is_premium_rate(phone: str) -> bool:
    """Whether somebody gets paid for each SMS to this E.164 number."""
    return phonenumbers.number_type(phonenumbers.parse(phone)) in _PREMIUM_RATE


def prefix_of(phone: str) -> str:
    """Country code and network of an E.164 number: `+49151` of `+4915112345678`."""
    number = phonenumbers.parse(phone)
    return f"+{number.country_code}{phonenumbers.national_significant_number(number)[:NETWORK_DIGITS]}"


def spent_budget(session: Session, settings: Settings, prefix_hashes: list[str], now: datetime) -> str | None:
    """Which budget has nothing left, in words. Whoever asks holds it until the transaction ends.

    Always in one order, and after the phone's own rows: nobody waits in a circle.
    """
    since = now - HOUR
    if (most := settings.otp_prefix_hourly_limit) is not None:
        for prefix_hash in sorted(prefix_hashes):
            store.lock_budget(session, prefix_hash)
        if store.made_since(session, since, most=most, prefix_hashes=prefix_hashes) >= most:
            return f"its prefix has had {plural(most, 'code')} within an hour (OTP_PREFIX_HOURLY_LIMIT)"
    if (most := settings.otp_global_hourly_limit) is not None:
        store.lock_budget(session, "all")
        if store.made_since(session, since, most=most) >= most:
            return f"{plural(most, 'code was', 'codes were')} sent within an hour (OTP_GLOBAL_HOURLY_LIMIT)"
    return None


class SendCode(PhoneSession):
    def run(self, locale: str | None = None) -> Decision:
        state = self._enter(store.lock_phone(self._session, self._hashes, now=self._now).values())
        self._record(AuditAction.OTP_SEND_REQUESTED)
        code, challenge_id = new_code(), new_challenge_id()
        decision = self._services.pipe.send(self._session, self._request(code, state, locale))
        if isinstance(decision, Queued):
            self._replace(code, challenge_id, decision.message_id)
        elif isinstance(decision, Blocked):
            self._record_refusal(decision, state)
        return decision

    def _request(self, code: str, state: PhoneState, locale: str | None) -> SendRequest:
        settings = self._services.settings
        context: dict[str, object] = {"code": code, "valid_minutes": max(1, settings.otp_ttl_seconds // 60)}
        if settings.otp_domain:
            context["domain"] = settings.otp_domain
        return SendRequest(
            template_key=OTP_TEMPLATE,
            recipient=self._phone,
            context=context,
            source=SOURCE,
            actor=self._actor,
            metadata={
                "action": self._action,
                "phone_hash": self._phone_hash,
                "attempt_count": state.failed_count,
            },
            # A code is worth sending in any language.
            locale=locale if locale and is_known(locale) else None,
            objections=self._objections(state),
        )

    def _objections(self, state: PhoneState) -> Mapping[BlockReason, str]:
        if is_premium_rate(self._phone):
            return {BlockReason.RECIPIENT_INVALID: "premium-rate and shared-cost numbers get no codes"}
        if state.is_locked(self._now):
            return {BlockReason.RATE_LIMITED: "the phone is locked after too many wrong codes"}
        limited = self._cooldown() or spent_budget(
            self._session,
            self._services.settings,
            self._services.peppers.prefix_hashes(prefix_of(self._phone)),
            self._now,
        )
        return {BlockReason.RATE_LIMITED: limited} if limited else {}

    def _cooldown(self) -> str | None:
        seconds = self._services.settings.otp_resend_cooldown_seconds
        last = store.last_made_at(self._session, self._hashes) if seconds else None
        if last is None or self._now >= last + timedelta(seconds=seconds):
            return None
        return f"the last code is younger than {seconds} s (OTP_RESEND_COOLDOWN_SECONDS)"

    def _replace(self, code: str, challenge_id: str, message_id: str) -> None:
        self._end_live_codes(OtpState.SUPERSEDED, "a newer code took its place", self._action)
        peppers = self._services.peppers
        challenge = CodeRow(
            id=challenge_id,
            action=self._action,
            code_hash=peppers.code_hash(challenge_id, self._phone, self._action, code),
            key_id=peppers.ids[0],
            message_id=message_id,
            created_at=self._now,
            expires_at=self._now + timedelta(seconds=self._services.settings.otp_ttl_seconds),
        )
        prefix_hash = peppers.prefix_hashes(prefix_of(self._phone))[0]
        store.add(self._session, challenge, phone_hash=self._phone_hash, prefix_hash=prefix_hash)

    def _record_refusal(self, decision: Blocked, state: PhoneState) -> None:
        if state.is_locked(self._now):
            self._record(AuditAction.OTP_LOCKED_OUT, decision.message_id, event="refused", **lock_details(state))
        elif decision.reason is BlockReason.RATE_LIMITED:
            self._record(AuditAction.OTP_RATE_LIMITED, decision.message_id, detail=decision.detail)
