"""A bucket's lifecycle rules: ours follow the declarations, everybody else's stay, and nothing is ever deleted by ours."""

import json
from typing import Any

import pytest

from ingestion_platform.landing.rules import deleting, difference, merged, rules_of
from ingestion_platform.landing.s3 import S3Landing
from ingestion_platform.lifecycle import Lifecycle
from ingestion_platform_tests.s3_faults import Faults, S3Server

ROOTS = {
    "sales/": Lifecycle(warm_after_days=30, cold_after_days=365),
    "shops/": None,
    "streams/pos/": Lifecycle(cold_after_days=90, cold_class="GLACIER_IR"),
}
THEIRS: dict[str, Any] = {
    "ID": "theirs",
    "Status": "Enabled",
    "Filter": {"Prefix": "logs/"},
    "Expiration": {"Days": 7},
}


def test_rules_follow_the_declarations() -> None:
    """One for each beginning of keys whose objects age, below the landing zone's prefix."""
    assert rules_of(ROOTS, "in/") == [
        {
            "ID": "ingestion-platform in/sales/",
            "Status": "Enabled",
            "Filter": {"Prefix": "in/sales/"},
            "Transitions": [
                {"Days": 30, "StorageClass": "STANDARD_IA"},
                {"Days": 365, "StorageClass": "DEEP_ARCHIVE"},
            ],
        },
        {
            "ID": "ingestion-platform in/streams/pos/",
            "Status": "Enabled",
            "Filter": {"Prefix": "in/streams/pos/"},
            "Transitions": [{"Days": 90, "StorageClass": "GLACIER_IR"}],
        },
    ]


def test_no_rule_of_ours_deletes() -> None:
    """Neither objects, nor former versions, nor anything else."""
    assert "xpir" not in json.dumps(rules_of(ROOTS, "in/"))


def test_only_ours_are_replaced() -> None:
    """Those of a former declaration go, those of others and of another landing zone stay, and so does what else is configured."""
    former = {"ID": "ingestion-platform in/old/", "Status": "Enabled", "Filter": {"Prefix": "in/old/"}}
    elsewhere = {"ID": "ingestion-platform out/sales/", "Status": "Enabled", "Filter": {"Prefix": "out/sales/"}}
    before = {
        "Rules": [THEIRS, former, elsewhere, {"Status": "Enabled", "Prefix": "x"}],
        "TransitionDefaultMinimumObjectSize": "varies_by_storage_class",
    }
    after = merged(before, ROOTS, "in/")
    assert after["Rules"][:3] == [THEIRS, elsewhere, {"Status": "Enabled", "Prefix": "x"}]
    assert after["Rules"][3:] == rules_of(ROOTS, "in/")
    assert after["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    assert [line[:30] for line in difference(before, after)] == [
        "- 'ingestion-platform in/old/'",
        "+ 'ingestion-platform in/sales",
        "+ 'ingestion-platform in/strea",
    ]
    assert difference(after, merged(after, ROOTS, "in/")) == []
    changed = merged(after, {"sales/": Lifecycle(warm_after_days=60)}, "in/")
    assert [line[0] for line in difference(after, changed)] == ["-", "+", "-"]


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        (THEIRS, False),
        ({**THEIRS, "Filter": {"Prefix": ""}}, True),
        ({**THEIRS, "Filter": {"Prefix": "in/sales/2020"}}, True),
        ({**THEIRS, "Filter": {"And": {"Prefix": "in/", "Tags": []}}}, True),
        ({**THEIRS, "Filter": {}, "Status": "Disabled"}, False),
        ({"ID": "theirs", "Status": "Enabled", "Prefix": "in/", "Expiration": {"Days": 1}}, True),
        ({**THEIRS, "Filter": {"Prefix": "in/"}, "Expiration": {"ExpiredObjectDeleteMarker": True}}, False),
    ],
)
def test_rules_of_others_that_delete_what_has_landed_are_told(rule: dict[str, Any], is_told: bool) -> None:
    """A rebuild would miss what they delete."""
    assert deleting({"Rules": [rule]}, "in/") == (["theirs"] if is_told else [])


def test_a_bucket_takes_the_rules(s3_server: S3Server, faults: Faults) -> None:
    """Set, read back, changed, and taken away, beside somebody else's."""
    bucket = s3_server.new_bucket()
    landing = S3Landing(f"s3://{bucket}/in")
    assert landing.lifecycle() == {"Rules": []}
    landing.put_lifecycle({"Rules": [THEIRS]})
    after = merged(landing.lifecycle(), ROOTS, landing.prefix)
    landing.put_lifecycle(after)
    found = landing.lifecycle()
    assert {rule["ID"] for rule in found["Rules"]} == {
        "theirs",
        "ingestion-platform in/sales/",
        "ingestion-platform in/streams/pos/",
    }
    assert difference(found, merged(found, ROOTS, landing.prefix)) == []
    landing.put_lifecycle(merged(found, {}, landing.prefix))
    assert [rule["ID"] for rule in landing.lifecycle()["Rules"]] == ["theirs"]
    landing.put_lifecycle({"Rules": []})
    assert landing.lifecycle() == {"Rules": []}
