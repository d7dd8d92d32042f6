"""No trigger wakes workers any more: who writes messages says so once they are committed. And cleaning comes in time.

PostgreSQL only. The trigger's NOTIFY took a lock at the commit that all databases of the server share, and each send
waited there for the disk of the others. Senders of the version before say nothing: until they are restarted, workers
find their messages by the look of each second. Workers of that version hear the new senders as before.

message_log: each message leaves two dead rows. PostgreSQL cleans when a fifth of a table is dead, which for millions of
finished messages is days of traffic; the queue's index, though small, waits that long as well. 2 % is a day's share of
a table that keeps 50. It costs a walk over all of its indexes each time. Analyzed at 2 %, since what a query meets is
how many wait, and not how many there are.
audit_log and message_payload: only added to, or deleted from. 5 % makes many short rounds of one long one.
fillfactor stays as it is: no update of a message is a HOT one, since most of its indexes depend on the status, and the
rows of budget, breaker and heartbeats have their pages to themselves, where all updates are.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SETTINGS = {
    "message_log": {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
    },
    "message_payload": {"autovacuum_vacuum_scale_factor": "0.05", "autovacuum_vacuum_insert_scale_factor": "0.05"},
    "audit_log": {"autovacuum_vacuum_scale_factor": "0.05", "autovacuum_vacuum_insert_scale_factor": "0.05"},
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP TRIGGER message_log_wakes_workers ON message_log")
    op.execute("DROP FUNCTION notifyctl_wake()")
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in settings.items())})")


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
    op.execute(
        "CREATE FUNCTION notifyctl_wake() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_notify('notifyctl', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER message_log_wakes_workers AFTER INSERT ON message_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION notifyctl_wake()"
    )
