from pathlib import Path

import pytest

from notifyctl.clients.plans import SMS_REMINDERS, load_plans
from notifyctl.errors import InvalidInput

REGISTRY = """
[plans.TEAM]
name = "Team"
features = ["sms_reminders", "exports"]
stripe = ["price_1Abc", "prod_9Xyz", "team_monthly"]

[plans.FREE]
"""


def test_of_the_shipped_plans_only_pro_has_sms_reminders() -> None:
    plans = load_plans(None)
    assert plans.has_feature("PRO", SMS_REMINDERS)
    assert not plans.has_feature("SOLO", SMS_REMINDERS)


@pytest.mark.parametrize("plan", [None, "", "GOLD"])
def test_no_plan_and_an_unknown_plan_have_no_feature(plan: str | None) -> None:
    assert not load_plans(None).has_feature(plan, SMS_REMINDERS)


def test_a_file_replaces_the_shipped_plans(tmp_path: Path) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(REGISTRY)
    plans = load_plans(file)
    assert sorted(plans.plans) == ["FREE", "TEAM"]
    assert plans.plans["FREE"].name == "FREE"
    assert plans.has_feature("TEAM", "exports")
    assert plans.source == str(file)


@pytest.mark.parametrize("reference", ["price_1Abc", "prod_9Xyz", "team_monthly"])
def test_a_stripe_price_product_or_lookup_key_finds_its_plan(tmp_path: Path, reference: str) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(REGISTRY)
    plans = load_plans(file)
    found = plans.for_stripe(None, reference)
    assert found is not None
    assert found.key == "TEAM"
    assert plans.for_stripe(None, "price_other") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("plans = 1", "has no .plans.NAME. table"),
        ("", "has no .plans.NAME. table"),
        ("[plans.A", "is not TOML"),
        ("[plans]\nA = 1", "must be a table"),
        ("[plans.A]\nfeature = []", "unknown entries feature; did you mean features\\? Known: name, features, stripe"),
        ("[plans.A]\nprice = 1", "unknown entries price; known: name, features, stripe"),
        ('[plans.A]\nfeatures = "sms"', "features must be a list of strings"),
        ("[plans.A]\nstripe = [1]", "stripe must be a list of strings"),
        ('[plans.A]\nstripe = ["p"]\n[plans.B]\nstripe = ["p"]', "p stands for A and B; keep one"),
    ],
)
def test_a_faulty_registry_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "plans.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=complaint) as refusal:
        load_plans(file)
    assert f"NOTIFICATION_PLAN_REGISTRY {file}" in str(refusal.value)


def test_a_registry_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"plans\.toml cannot be read"):
        load_plans(tmp_path / "plans.toml")
