"""Sending a code."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from notifyctl.models.audit import AuditAction
from notifyctl.models.message import OTP_TEMPLATE, BlockReason
from notifyctl.models.otp import OtpState
from notifyctl.orchestrator.requests import Blocked, Decision, Queued, SendRequest
from notifyctl.otp import budgets
from notifyctl.otp.codes import earns_its_owner_money, new_challenge_id, new_code, prefix_of
from notifyctl.otp.standing import Standing
from notifyctl.otp.visit import SOURCE, Visit, told
from notifyctl.store import otp as store


class Sending(Visit):
    def run(self) -> Decision:
        standing = self._enter(store.lock_phone(self._session, self._hashes, now=self._now))
        self._record(AuditAction.OTP_SEND_REQUESTED)
        code, challenge_id = new_code(), new_challenge_id()
        decision = self._desk.pipe.send(self._session, self._request(code, standing))
        if isinstance(decision, Queued):
            self._replace(code, challenge_id, decision.message_id)
        elif isinstance(decision, Blocked):
            self._record_refusal(decision, standing)
        return decision

    def _request(self, code: str, standing: Standing) -> SendRequest:
        settings = self._desk.settings
        context: dict[str, Any] = {"code": code, "valid_minutes": max(1, settings.otp_ttl_seconds // 60)}
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
                "attempt_count": standing.failed_count,
            },
            objections=self._objections(standing),
        )

    def _objections(self, standing: Standing) -> Mapping[BlockReason, str]:
        if earns_its_owner_money(self._phone):
            return {BlockReason.RECIPIENT_INVALID: "premium-rate and shared-cost numbers get no codes"}
        if standing.is_locked(self._now):
            return {BlockReason.RATE_LIMITED: "the phone is locked after too many wrong codes"}
        limited = self._cooldown() or budgets.spent(
            self._session, self._desk.settings, self._desk.peppers.prefix_hashes(prefix_of(self._phone)), self._now
        )
        return {BlockReason.RATE_LIMITED: limited} if limited else {}

    def _cooldown(self) -> str | None:
        seconds = self._desk.settings.otp_resend_cooldown_seconds
        last = store.last_made_at(self._session, self._hashes) if seconds else None
        if last is None or self._now >= last + timedelta(seconds=seconds):
            return None
        return f"the last code is younger than {seconds} s (OTP_RESEND_COOLDOWN_SECONDS)"

    def _replace(self, code: str, challenge_id: str, message_id: str) -> None:
        self._end_live_codes(OtpState.SUPERSEDED, "a newer code took its place", self._action)
        store.add(
            self._session,
            {
                "id": challenge_id,
                "phone_hash": self._phone_hash,
                "prefix_hash": self._desk.peppers.prefix_hashes(prefix_of(self._phone))[0],
                "action": self._action,
                "code_hash": self._desk.peppers.code_hash(challenge_id, self._phone, self._action, code),
                "key_id": self._desk.peppers.ids[0],
                "message_id": message_id,
                "created_at": self._now,
                "expires_at": self._now + timedelta(seconds=self._desk.settings.otp_ttl_seconds),
            },
        )

    def _record_refusal(self, decision: Blocked, standing: Standing) -> None:
        if standing.is_locked(self._now):
            self._record(AuditAction.OTP_LOCKED_OUT, decision.message_id, event="refused", **told(standing))
        elif decision.reason is BlockReason.RATE_LIMITED:
            self._record(AuditAction.OTP_RATE_LIMITED, decision.message_id, detail=decision.detail)
