"""Findings about tables: class by recording, groups and copies on two sides of a split."""

from fastcell.audit.table_findings import duplicate_finding
from fastcell.splits.copies.exact import exact_sets


def test_copies_on_two_sides(make_audit_set):
    manifest = make_audit_set(copies=True)
    found = duplicate_finding(manifest, exact_sets(manifest, jobs=1))
    assert found.verdict == "problem"
    assert found.details["sets"] == 1
    assert found.details["two_classes"] == 1
    assert "two sides of a split" in found.says["else"]
    clean = make_audit_set()
    assert duplicate_finding(clean, exact_sets(clean, jobs=1)).verdict == "ok"
