"""Every table, imported once so that SQLModel.metadata is whole."""

from sqlmodel import SQLModel

from notifyctl.models.alerts import ComplianceItem, SpikeState
from notifyctl.models.audit import AuditCheckpoint, AuditLog, AuditSeal
from notifyctl.models.client import Client
from notifyctl.models.message import MessageLog, MessagePayload
from notifyctl.models.operations import (
    ApiKey,
    JobRun,
    OutboundBudget,
    OutboundLimit,
    PageSession,
    Pause,
    ProviderBreaker,
    StoreState,
    WorkerHeartbeat,
)
from notifyctl.models.otp import OtpChallenge, OtpSubject
from notifyctl.models.receipt import EarlyReceipt, Suppression, SuppressionRelease
from notifyctl.models.stripe_event import StripeEvent, StripeInvoice, StripeSubscription
from notifyctl.models.template import NotificationTemplate, NotificationTemplateVersion

metadata = SQLModel.metadata

__all__ = [
    "ApiKey",
    "AuditCheckpoint",
    "AuditLog",
    "AuditSeal",
    "Client",
    "ComplianceItem",
    "EarlyReceipt",
    "JobRun",
    "MessageLog",
    "MessagePayload",
    "NotificationTemplate",
    "NotificationTemplateVersion",
    "OtpChallenge",
    "OtpSubject",
    "OutboundBudget",
    "OutboundLimit",
    "PageSession",
    "Pause",
    "ProviderBreaker",
    "SpikeState",
    "StoreState",
    "StripeEvent",
    "StripeInvoice",
    "StripeSubscription",
    "Suppression",
    "SuppressionRelease",
    "WorkerHeartbeat",
    "metadata",
]
