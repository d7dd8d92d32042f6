"""Checking a code: counted first, then compared."""

from notifyctl.models.enums import AuditAction, OtpState
from notifyctl.otp.phone_state import CLEAN, PhoneState, is_open
from notifyctl.otp.visit import PhoneSession, lock_details
from notifyctl.store import otp as store
from notifyctl.store.otp import CodeRow


class VerifyCode(PhoneSession):
    def run(self, code: str) -> bool:
        known = store.lock_known_phone(self._session, self._hashes)
        state = self._enter(known.values())
        # Only of rows that are locked: the first code of a phone may be on its way in at this moment.
        live = store.live(self._session, known)
        challenge = next((row for row in live if row.action == self._action), None)
        if state.is_locked(self._now):
            self._record(AuditAction.OTP_LOCKED_OUT, event="refused", **lock_details(state))
        elif challenge is None:
            self._record(AuditAction.OTP_VERIFY_FAILED, cause="no_live_code")
        elif not is_open(challenge, self._now):
            store.end(self._session, self._hashes, OtpState.EXPIRED, now=self._now, action=self._action)
            self._record(AuditAction.OTP_VERIFY_FAILED, challenge.message_id, cause="expired")
        else:
            counted = state.attempted()
            is_right = self._services.peppers.fits(challenge, self._phone, code)
            return self._accept(challenge, counted) if is_right else self._refuse(challenge, counted)
        # No attempt, but it does the work of one, and so takes as long.
        self._write(state)
        self._services.peppers.code_hash("", self._phone, self._action, code)
        return False

    def _accept(self, challenge: CodeRow, counted: PhoneState) -> bool:
        store.end(self._session, self._hashes, OtpState.USED, now=self._now, action=self._action)
        self._write(CLEAN)
        self._record(AuditAction.OTP_VERIFY_SUCCESS, challenge.message_id, attempt=counted.failed_count)
        return True

    def _refuse(self, challenge: CodeRow, counted: PhoneState) -> bool:
        state = counted.failed(self._now, self._services.lock_policy)
        self._write(state)
        details = {"cause": "wrong_code", "attempt": counted.failed_count}
        self._record(AuditAction.OTP_VERIFY_FAILED, challenge.message_id, **details)
        if state.is_locked(self._now):
            self._end_live_codes(OtpState.LOCKED, "the phone was locked after too many wrong codes")
            self._record(AuditAction.OTP_LOCKED_OUT, challenge.message_id, event="begun", **lock_details(state))
        return False
