import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, select

from notifyctl.errors import NotFound
from notifyctl.models.audit import AuditLog
from notifyctl.models.enums import AuditAction, Channel, Lane, OnDoubt
from notifyctl.templates import catalogue
from notifyctl.templates import store as template_store
from notifyctl.templates.catalogue import SeedStatus
from notifyctl.templates.render import Renderer

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


@pytest.fixture(scope="module")
def files():
    return catalogue.load(catalogue.templates_dir())


def seed(database, files, settings, now=NOON):
    with database.transaction() as session:
        changes = catalogue.seed(session, files, settings=settings, now=now, actor="test")
    return {change.template_key: change for change in changes}


def by_key(database, key):
    with database.read() as session:
        return template_store.by_key(session, [key])[key]


def edited(files, key, **changes):
    """The files with one template changed: fields of its front matter, or its text_body."""
    text = changes.pop("text_body", None)

    def edit(file):
        front = file.front.model_copy(update=changes)
        return dataclasses.replace(file, front=front, text_body=text or file.text_body)

    return [edit(file) if file.template_key == key else file for file in files]


def audits(database, action):
    with database.read() as session:
        found = session.execute(select(AuditLog).where(AuditLog.action == action).order_by(AuditLog.id)).scalars()
        return [(row.actor, row.created_at, row.details) for row in found]


def test_the_first_seeding_stores_every_template_with_an_audit_row(database, files, settings):
    changes = seed(database, files, settings)
    assert {(change.status, change.version) for change in changes.values()} == {(SeedStatus.NEW, 1)}
    rows = audits(database, AuditAction.TEMPLATE_SEEDED)
    assert len(rows) == len(files)
    assert rows[0] == (
        "test",
        NOON,
        {"template_key": "COMPLIANCE_EXPIRY_REMINDER", "version": 1, "changed": [], "origin": "shipped"},
    )


def test_seeding_again_changes_nothing(database, files, settings):
    seed(database, files, settings)
    changes = seed(database, files, settings, now=LATER)
    assert {change.status for change in changes.values()} == {SeedStatus.UNCHANGED}
    assert len(audits(database, AuditAction.TEMPLATE_SEEDED)) == len(files)


def test_a_stored_template_reads_as_its_file(database, files, settings):
    seed(database, files, settings)
    template = by_key(database, "COMPLIANCE_EXPIRY_REMINDER_SMS")
    assert (template.channel, template.lane, template.on_doubt) == (Channel.SMS, Lane.BULK, OnDoubt.HOLD)
    assert template.rate_limit_by == ("item_reference",)
    assert template.plan_required_feature_key == "sms_reminders"
    file = next(file for file in files if file.template_key == template.template_key)
    assert template.variables == file.variables


def test_changed_words_make_a_new_version_and_keep_the_earlier_one(database, files, settings):
    seed(database, files, settings)
    change = seed(database, edited(files, "OPS_ALERT_SMS", text_body="Now: {{ summary }}"), settings, now=LATER)[
        "OPS_ALERT_SMS"
    ]
    assert (change.status, change.version, change.fields) == (SeedStatus.CHANGED, 2, ("text_body", "brand"))
    with database.read() as session:
        found = template_store.sources(session, [("OPS_ALERT_SMS", 1), ("OPS_ALERT_SMS", 2), ("OPS_ALERT_SMS", 3)])
        versions = [row.version for row in template_store.history(session, "OPS_ALERT_SMS")]
    texts = {number: Renderer().render(source, {"summary": "x"}).text for (_, number), source in found.items()}
    assert texts == {1: "Ops alert: x. See: notifyctl health", 2: "Now: x"}
    assert versions == [2, 1]
    assert by_key(database, "OPS_ALERT_SMS").version == 2


def test_a_changed_rule_makes_a_new_version_that_names_it(database, files, settings):
    seed(database, files, settings)
    changed = edited(files, "WELCOME_EMAIL", lane=Lane.BULK, sensitive=True)
    change = seed(database, changed, settings)["WELCOME_EMAIL"]
    assert (change.version, change.fields) == (2, ("lane", "sensitive"))
    assert by_key(database, "WELCOME_EMAIL").lane is Lane.BULK
    assert audits(database, AuditAction.TEMPLATE_SEEDED)[-1][2]["changed"] == ["lane", "sensitive"]


def test_a_row_that_was_changed_by_hand_is_put_right(database, files, settings):
    seed(database, files, settings)
    with database.transaction() as session:
        template_store.current(session)["WELCOME_EMAIL"][0].requires_provisioned = False
    assert seed(database, files, settings)["WELCOME_EMAIL"].fields == ("requires_provisioned",)
    assert by_key(database, "WELCOME_EMAIL").requires_provisioned is True


@pytest.mark.parametrize(("key", "enabled"), [("WELCOME_EMAIL", False), ("OPS_ALERT_SMS", True)])
def test_what_an_operator_switched_stays_so_through_seeding(database, files, settings, key, enabled):
    seed(database, files, settings)
    with database.transaction() as session:
        assert catalogue.set_enabled(session, key, enabled, now=NOON, actor="ann") is True
        assert catalogue.set_enabled(session, key, enabled, now=NOON, actor="ann") is False
    assert seed(database, files, settings)[key].status is SeedStatus.UNCHANGED
    assert seed(database, edited(files, key, description="Other."), settings)[key].fields == ("description",)
    assert by_key(database, key).enabled is enabled
    event_name = "template_enabled" if enabled else "template_disabled"
    assert audits(database, AuditAction.OPERATOR_ACTION) == [("ann", NOON, {"event": event_name, "template_key": key})]


def test_a_file_that_switches_a_template_off_is_obeyed_where_no_operator_spoke(database, files, settings):
    seed(database, files, settings)
    seed(database, edited(files, "WELCOME_EMAIL", enabled=False), settings)
    assert by_key(database, "WELCOME_EMAIL").enabled is False


def test_switching_an_unknown_template_is_refused(database):
    with pytest.raises(NotFound, match="no template 'NOPE'"), database.transaction() as session:
        catalogue.set_enabled(session, "NOPE", False, now=NOON, actor="ann")


def test_the_rate_and_life_of_codes_come_from_the_settings(database, files, settings):
    seed(database, files, settings)
    template = by_key(database, "OTP_CODE_SMS")
    assert (template.rate_limit_max_sends, template.rate_limit_window_seconds) == (3, 1800)
    other = settings.model_copy(update={"otp_send_rate_limit": "5/10m", "otp_ttl_seconds": 300})
    change = seed(database, files, other)["OTP_CODE_SMS"]
    assert change.fields == ("rate_limit_window_seconds", "rate_limit_max_sends", "expires_after_seconds")
    template = by_key(database, "OTP_CODE_SMS")
    assert (template.rate_limit_max_sends, template.rate_limit_window_seconds) == (5, 600)
    assert template.expires_after_seconds == 300


def test_diff_says_what_seeding_would_do_and_writes_nothing(database, files, settings):
    seed(database, files[1:], settings)
    changed = edited(files[:-1], "PASSWORD_RESET", subject="Other")
    with database.read() as session:
        found = catalogue.diff(session, changed, settings=settings)
    differing = {
        item.template_key: (item.status, item.version, item.fields) for item in found if item.status != "UNCHANGED"
    }
    assert differing == {
        "COMPLIANCE_EXPIRY_REMINDER": (SeedStatus.NEW, 1, ()),
        "PASSWORD_RESET": (SeedStatus.CHANGED, 2, ("subject",)),
        "WELCOME_EMAIL": (SeedStatus.NOT_IN_FILES, 1, ()),
    }
    with database.read() as session:
        assert len(template_store.everything(session)) == len(files) - 1


def test_a_rolled_back_seeding_leaves_nothing(database, files, settings):
    with database.transaction() as session:
        catalogue.seed(session, files, settings=settings, now=NOON, actor="test")
        session.rollback()
    with database.read() as session:
        assert template_store.everything(session) == []
    assert audits(database, AuditAction.TEMPLATE_SEEDED) == []


def test_two_seedings_at_once_make_one_version(database, files, settings):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: seed(database, files, settings), range(4)))
    statuses = sorted(result["WELCOME_EMAIL"].status for result in results)
    assert statuses == ["NEW", "UNCHANGED", "UNCHANGED", "UNCHANGED"]
    assert len(audits(database, AuditAction.TEMPLATE_SEEDED)) == len(files)


def test_templates_are_read_in_one_statement_and_unknown_ones_are_left_out(database, files, settings):
    seed(database, files, settings)
    statements = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with database.read() as session:
        found = template_store.by_key(session, ["WELCOME_EMAIL", "PASSWORD_RESET", "WELCOME_EMAIL", "NOPE"])
        assert list(found) == ["PASSWORD_RESET", "WELCOME_EMAIL"]
        assert template_store.by_key(session, []) == {}
        assert template_store.sources(session, []) == {}
    assert len([text for text in statements if "notification_template" in text]) == 1
    assert "body" not in statements[-1]


def test_a_stored_template_renders_as_its_file(database, files, settings):
    seed(database, files, settings)
    with database.read() as session:
        sources = template_store.sources(session, [(file.template_key, 1) for file in files])
    for file in files:
        stored = Renderer().render(sources[file.template_key, 1], file.example)
        assert stored == Renderer().render(file.source, file.example)
