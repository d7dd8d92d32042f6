"""What everybody who works on events needs."""

from dataclasses import dataclass

from notifyctl.clock import Clock
from notifyctl.orchestrator.orchestrator import NotificationOrchestrator
from notifyctl.orchestrator.plans import PlanRegistry
from notifyctl.settings import Settings
from notifyctl.store.database import Database


@dataclass(frozen=True, slots=True)
class Desk:
    settings: Settings
    database: Database
    clock: Clock
    orchestrator: NotificationOrchestrator
    plans: PlanRegistry
