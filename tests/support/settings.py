"""Settings of an installation that lacks nothing, for this process and for the environment of another."""

from notifyctl.settings import Settings

REAL_PROVIDERS = {
    "POSTMARK_API_URL": "https://api.postmarkapp.com",
    "TWILIO_API_URL": "https://api.twilio.com",
    "STRIPE_API_URL": "https://api.stripe.com",
}
"""For commands that call nobody, and say of other addresses what they are."""
SECRET = "0f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
PEPPER = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809"


def make_settings(**values: object) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "notification_secret_key": SECRET,
            "otp_pepper": PEPPER,
            "email_sender": "Acme <hello@acme.example>",
            "email_reply_to": "support@acme.example",
            "postmark_server_token": "sandbox-token",
            "twilio_account_sid": "AC" + "0" * 32,
            "twilio_auth_token": "sandbox-token",
            "twilio_from_number": "+15005550006",
            # The clock of most tests is the wall's: at night they would see other things than by day.
            "quiet_hours": "00:00-00:00",
            **values,
        },
    )
