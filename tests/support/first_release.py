"""A worker of the first release, by the statements that it ran; what it gives to the provider is a list."""

from collections import Counter
from threading import Event, Thread
from time import monotonic
from uuid import uuid4

import psycopg

ACCEPT = """
    INSERT INTO message_log (id, idempotency_key, client_id, channel, audience, template_key, template_version,
        recipient, recipient_hash, source, rate_subject, status, attempts, lane, next_attempt_at,
        created_at, lease_generation)
    VALUES (%(id)s::uuid, %(id)s::text, 'acme', 'EMAIL', 'CLIENT', 'WELCOME_EMAIL', 1, 'jo@acme.example', 'hash',
        'api', 'acme', 'QUEUED', 0, 'TRANSACTIONAL', now(), now(), 0)
"""
PAYLOAD = "INSERT INTO message_payload (message_id, context) VALUES (%(id)s, '{}')"
AUDIT = """
    INSERT INTO audit_log (action, actor, client_id, message_id, created_at)
    VALUES (%(action)s, 'worker', 'acme', %(id)s, now())
"""
LOCK_DUE = """
    SELECT id, client_id, template_key, template_version, recipient, recipient_hash, attempts, lane, expires_at,
        created_at, lease_generation, context, sealed FROM message_log
    LEFT OUTER JOIN message_payload ON message_payload.message_id = message_log.id
    WHERE channel = 'EMAIL' AND lane = 'TRANSACTIONAL' AND next_attempt_at <= now()
    AND message_log.status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED')
    ORDER BY next_attempt_at LIMIT 10 FOR UPDATE OF message_log SKIP LOCKED
"""
CLAIM = """
    UPDATE message_log SET status = 'SENDING', attempts = attempts + 1, last_attempt_at = now(), provider = 'postmark',
        lease_owner = %(worker)s, lease_generation = lease_generation + 1, lease_until = now() + interval '45 s'
    WHERE id = ANY(%(ids)s)
"""
RECORD = """
    UPDATE message_log SET status = 'SENT', provider_message_id = 'pm-' || id, next_attempt_at = NULL, sent_at = now(),
        finished_at = now(), lease_until = NULL
    WHERE id = ANY(%(ids)s) AND status IN ('SENDING', 'IN_DOUBT') AND lease_owner = %(worker)s
    RETURNING id
"""
BEAT = """
    INSERT INTO worker_heartbeat (worker, host, pid, version, started_at, seen_at, stopping)
    VALUES (%(worker)s, 'app-1', 1, '0.1.0', now(), now(), false)
    ON CONFLICT (worker) DO UPDATE SET seen_at = now(), stopping = false
"""


class FirstWorker(Thread):
    """Accepts, claims, sends and records until `stop` is set."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name)
        self._url = url
        self.stop = Event()
        self.accepted: list[str] = []
        self.sent: Counter[str] = Counter()
        self.longest_statement = 0.0
        """In seconds: above all, the wait for a lock."""
        self.longest_gap = 0.0
        """Between two records."""
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self._url) as connection:
                last = monotonic()
                while not self.stop.is_set():
                    self._accept(connection)
                    self._send(connection)
                    last, before = monotonic(), last
                    self.longest_gap = max(self.longest_gap, last - before)
                while self._send(connection):
                    pass
        except Exception as error:  # noqa: BLE001  the test's own thread asks for it
            self.error = error

    def _accept(self, connection: psycopg.Connection) -> None:
        one = str(uuid4())
        for statement in (ACCEPT, PAYLOAD, AUDIT):
            self._run(connection, statement, id=one, action="NOTIFICATION_QUEUED")
        connection.commit()
        self.accepted.append(one)

    def _send(self, connection: psycopg.Connection) -> int:
        ids = [row[0] for row in self._run(connection, LOCK_DUE).fetchall()]
        self._run(connection, CLAIM, ids=ids, worker=self.name)
        connection.commit()
        self.sent.update(str(one) for one in ids)
        for one in ids:
            self._run(connection, AUDIT, id=one, action="NOTIFICATION_SENT")
        recorded = self._run(connection, RECORD, ids=ids, worker=self.name).fetchall()
        assert len(recorded) == len(ids)
        self._run(connection, BEAT, worker=self.name)
        connection.commit()
        return len(ids)

    def _run(self, connection: psycopg.Connection, statement: str, **values: object) -> psycopg.Cursor:
        began = monotonic()
        cursor = connection.execute(statement, values)
        self.longest_statement = max(self.longest_statement, monotonic() - began)
        return cursor
