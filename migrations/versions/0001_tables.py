"""tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON_VALUE = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MESSAGE_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("scopes", JSON_VALUE, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column(
            "action",
            sa.Enum(
                "OTP_SEND_REQUESTED",
                "OTP_SENT",
                "OTP_VERIFY_SUCCESS",
                "OTP_VERIFY_FAILED",
                "OTP_RATE_LIMITED",
                "OTP_LOCKED_OUT",
                "OTP_UNLOCKED",
                "NOTIFICATION_QUEUED",
                "NOTIFICATION_BLOCKED",
                "NOTIFICATION_DUPLICATE",
                "NOTIFICATION_THROTTLED",
                "NOTIFICATION_SENT",
                "NOTIFICATION_RETRY_SCHEDULED",
                "NOTIFICATION_IN_DOUBT",
                "NOTIFICATION_FAILED",
                "NOTIFICATION_EXPIRED",
                "NOTIFICATION_CANCELED",
                "NOTIFICATION_DELIVERED",
                "NOTIFICATION_BOUNCED",
                "STRIPE_EVENT_RECEIVED",
                "STRIPE_EVENT_PROCESSED",
                "STRIPE_EVENT_FAILED",
                "STRIPE_EVENT_REPLAYED",
                "TEMPLATE_SEEDED",
                "CLIENT_UPDATED",
                "CLIENT_ERASED",
                "SUPPRESSION_ADDED",
                "SUPPRESSION_REMOVED",
                "SPIKE_RAISED",
                "SPIKE_ESCALATED",
                "SPIKE_CLEARED",
                "API_KEY_CREATED",
                "API_KEY_REVOKED",
                "LIMIT_CHANGED",
                "PAUSED",
                "RESUMED",
                "OPERATOR_ACTION",
                name="auditaction_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("message_id", MESSAGE_ID, nullable=True),
        sa.Column("metadata", JSON_VALUE, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_log_message_id", "audit_log", ["message_id"], unique=False)
    op.create_table(
        "audit_seal",
        sa.Column("id", ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("first_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("last_audit_id", ROW_NUMBER, nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("previous_digest", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "client",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone_e164", sa.String(), nullable=True),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=True),
        sa.Column(
            "provisioning_status",
            sa.Enum(
                "PENDING",
                "IN_PROGRESS",
                "COMPLETED",
                "FAILED",
                name="provisioningstatus_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "subscription_status",
            sa.Enum(
                "none",
                "trialing",
                "active",
                "past_due",
                "canceled",
                "unpaid",
                "incomplete",
                "incomplete_expired",
                "paused",
                name="subscriptionstatus_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("sms_enabled", sa.Boolean(), nullable=False),
        sa.Column("stripe_customer_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stripe_customer_id"),
    )
    op.create_table(
        "job_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "RUNNING",
                "DONE",
                "FAILED",
                name="joboutcome_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("summary", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_job_run_name", "job_run", ["name"], unique=False)
    op.create_table(
        "message_log",
        sa.Column("id", MESSAGE_ID, nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column(
            "channel",
            sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "audience",
            sa.Enum("CLIENT", "ADMIN", name="audience_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("template_key", sa.String(), nullable=False),
        sa.Column("template_version", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.String(), nullable=True),
        sa.Column("recipient_hash", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("source_ref", sa.String(), nullable=True),
        sa.Column("rate_subject", sa.String(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "QUEUED",
                "DEFERRED_THROTTLED",
                "SENDING",
                "RETRY_SCHEDULED",
                "IN_DOUBT",
                "SENT",
                "DELIVERED",
                "BOUNCED",
                "FAILED",
                "BLOCKED",
                "EXPIRED",
                "CANCELED",
                name="messagestatus_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "lane",
            sa.Enum(
                "URGENT",
                "TRANSACTIONAL",
                "BULK",
                name="lane_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("throttled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("provider_message_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metadata", JSON_VALUE, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_generation", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_message_log_client_rate", "message_log", ["client_id", "template_key", "created_at"], unique=False
    )
    op.create_index(
        "ix_message_log_lease",
        "message_log",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("status IN ('SENDING', 'IN_DOUBT')"),
        postgresql_where=sa.text("status IN ('SENDING', 'IN_DOUBT')"),
    )
    op.create_index(
        "ix_message_log_queue",
        "message_log",
        ["channel", "lane", "next_attempt_at"],
        unique=False,
        sqlite_where=sa.text("status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED')"),
        postgresql_where=sa.text("status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED')"),
    )
    op.create_index(
        "ix_message_log_recipient_rate",
        "message_log",
        ["recipient_hash", "template_key", "created_at"],
        unique=False,
        sqlite_where=sa.text("client_id IS NULL AND recipient_hash IS NOT NULL"),
        postgresql_where=sa.text("client_id IS NULL AND recipient_hash IS NOT NULL"),
    )
    op.create_index(
        "ux_message_log_idempotency_key",
        "message_log",
        ["idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL AND status != 'BLOCKED'"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL AND status != 'BLOCKED'"),
    )
    op.create_table(
        "message_payload",
        sa.Column("message_id", MESSAGE_ID, nullable=False),
        sa.Column("context", sa.String(), nullable=True),
        sa.Column("sealed", sa.String(), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_table(
        "notification_outbound_limits",
        sa.Column(
            "channel",
            sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("per_minute_limit", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("channel"),
    )
    op.create_table(
        "notification_template",
        sa.Column("template_key", sa.String(), nullable=False),
        sa.Column(
            "channel",
            sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "audience",
            sa.Enum("CLIENT", "ADMIN", name="audience_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "lane",
            sa.Enum(
                "URGENT",
                "TRANSACTIONAL",
                "BULK",
                name="lane_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("billing", sa.Boolean(), nullable=False),
        sa.Column("requires_provisioned", sa.Boolean(), nullable=False),
        sa.Column("requires_active_subscription", sa.Boolean(), nullable=False),
        sa.Column("plan_required_feature_key", sa.String(), nullable=True),
        sa.Column("rate_limit_window_seconds", sa.Integer(), nullable=True),
        sa.Column("rate_limit_max_sends", sa.Integer(), nullable=False),
        sa.Column("rate_limit_by", JSON_VALUE, nullable=False),
        sa.Column("sensitive", sa.Boolean(), nullable=False),
        sa.Column("expires_after_seconds", sa.Integer(), nullable=True),
        sa.Column(
            "on_doubt",
            sa.Enum("RESEND", "HOLD", name="ondoubt_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("audit_sent", sa.String(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("template_key"),
    )
    op.create_table(
        "otp_challenge",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("phone_hash", sa.String(), nullable=False),
        sa.Column(
            "action",
            sa.Enum(
                "PHONE_VERIFY",
                "SENSITIVE_ACTION",
                name="otpaction_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "LIVE",
                "USED",
                "SUPERSEDED",
                "LOCKED",
                "EXPIRED",
                name="otpstate_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("message_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_otp_challenge_phone_hash", "otp_challenge", ["phone_hash"], unique=False)
    op.create_table(
        "stripe_event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "RECEIVED",
                "PROCESSED",
                "IGNORED",
                "UNMATCHED",
                "FAILED",
                name="stripeeventstatus_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "suppression",
        sa.Column(
            "channel",
            sa.Enum("EMAIL", "SMS", name="channel_known", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("recipient_hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column(
            "reason",
            sa.Enum(
                "HARD_BOUNCE",
                "COMPLAINT",
                "OPTED_OUT",
                "INACTIVE",
                "MANUAL",
                name="suppressionreason_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("channel", "recipient_hash"),
    )
    op.create_table(
        "worker_heartbeat",
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopping", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("worker"),
    )
    op.create_table(
        "compliance_item",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["client.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_id", "reference"),
    )
    op.create_index("ix_compliance_item_expires_on", "compliance_item", ["expires_on"], unique=False)
    op.create_table(
        "notification_template_version",
        sa.Column("template_key", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("text_body", sa.String(), nullable=False),
        sa.Column("html_body", sa.String(), nullable=True),
        sa.Column("variables", JSON_VALUE, nullable=False),
        sa.Column("example", JSON_VALUE, nullable=False),
        sa.Column("flags", JSON_VALUE, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_key"],
            ["notification_template.template_key"],
        ),
        sa.PrimaryKeyConstraint("template_key", "version"),
    )
    op.create_table(
        "stripe_subscription",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "none",
                "trialing",
                "active",
                "past_due",
                "canceled",
                "unpaid",
                "incomplete",
                "incomplete_expired",
                "paused",
                name="subscriptionstatus_known",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("price_id", sa.String(), nullable=True),
        sa.Column("plan", sa.String(), nullable=True),
        sa.Column("current_period_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_event_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["client.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_stripe_subscription_client_id", "stripe_subscription", ["client_id"], unique=False)
    op.create_index("ix_stripe_subscription_customer_id", "stripe_subscription", ["customer_id"], unique=False)

    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION notifyctl_wake() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_notify('notifyctl', ''); RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER message_log_wakes_workers AFTER INSERT ON message_log"
            " FOR EACH STATEMENT EXECUTE FUNCTION notifyctl_wake()"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER message_log_wakes_workers ON message_log")
        op.execute("DROP FUNCTION notifyctl_wake()")
    op.drop_index("ix_stripe_subscription_customer_id", "stripe_subscription")
    op.drop_index("ix_stripe_subscription_client_id", "stripe_subscription")
    op.drop_table("stripe_subscription")
    op.drop_table("notification_template_version")
    op.drop_index("ix_compliance_item_expires_on", "compliance_item")
    op.drop_table("compliance_item")
    op.drop_table("worker_heartbeat")
    op.drop_table("suppression")
    op.drop_table("stripe_event")
    op.drop_index("ix_otp_challenge_phone_hash", "otp_challenge")
    op.drop_table("otp_challenge")
    op.drop_table("notification_template")
    op.drop_table("notification_outbound_limits")
    op.drop_table("message_payload")
    op.drop_index("ux_message_log_idempotency_key", "message_log")
    op.drop_index("ix_message_log_recipient_rate", "message_log")
    op.drop_index("ix_message_log_queue", "message_log")
    op.drop_index("ix_message_log_lease", "message_log")
    op.drop_index("ix_message_log_client_rate", "message_log")
    op.drop_table("message_log")
    op.drop_index("ix_job_run_name", "job_run")
    op.drop_table("job_run")
    op.drop_table("client")
    op.drop_table("audit_seal")
    op.drop_index("ix_audit_log_message_id", "audit_log")
    op.drop_table("audit_log")
    op.drop_table("api_key")
