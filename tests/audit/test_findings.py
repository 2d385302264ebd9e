"""Verdicts from significance and size, and how findings are written."""

import pytest

from fastcell.audit.findings import Finding, judge
from fastcell.stats.permutation import Outcome


def outcome_of(number, p, chance_high=0.55):
    return Outcome(number, 0.5, chance_high, p, 0.002, 500)


def test_verdicts_take_both_significance_and_size():
    made = judge(
        [
            Finding("a", "", result=outcome_of(0.9, 0.002)),
            Finding("b", "", result=outcome_of(0.65, 0.002)),
            Finding("c", "", result=outcome_of(0.56, 0.002)),
            Finding("d", "", result=outcome_of(0.9, 0.04)),
            Finding("e", "", result=Outcome(1.0, 0.5, 1.0, 0.2, 1 / 6, 500)),
            Finding("f", "", result=Outcome(0.6, 0.5, 1.0, 0.2, 1 / 6, 500)),
            Finding("g", ""),
            Finding("h", "", result=outcome_of(0.5, 0.5), verdict="problem"),
        ]
    )
    verdicts = {finding.key: finding.verdict for finding in made}
    assert verdicts == {
        "a": "problem", "b": "warning", "c": "ok", "d": "ok", "e": "cannot tell", "f": "cannot tell", "g": "skipped",
        "h": "problem",
    }  # fmt: skip
    assert made[3].p_adjusted == pytest.approx(0.12)  # the fourth of six: 3 x 0.04
