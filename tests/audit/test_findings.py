"""Verdicts from significance and size, and how findings are written."""

import json
import math

import numpy as np
import pytest

from fastcell.audit.findings import Finding, beside_chance, describe_result, judge
from fastcell.stats.permutation import Outcome


def outcome_of(number, p, chance_high=0.55):
    return Outcome(number, 0.5, chance_high, p, 0.002, 500)


@pytest.mark.parametrize(
    ("p", "effect", "words"),
    [
        (0.01, 0.3, "Above chance, but not after correction for all tests"),
        (0.017, 0.05, "Small, but above chance"),
        (0.06, 0.3, "Not above chance"),
        (math.nan, 0.3, "Not above chance"),
    ],
)
def test_a_number_without_an_alarm_says_why(p, effect, words):
    assert beside_chance(p, effect) == words


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


def test_result_in_words():
    text = describe_result(outcome_of(0.9, 0.002), 0.018)
    assert text == "0.900, chance 0.500 (95 % of permutations below 0.550), p 0.002, 0.018 corrected for all tests"
    untested = Outcome(0.25, float("nan"), float("nan"), float("nan"), 1.0, 0)
    assert describe_result(untested) == "0.250"


def test_lines_of_the_report():
    finding = Finding(
        "key", "a title", unit="V", result=outcome_of(0.9, 0.002), verdict="problem",
        says={"problem": "bad", "else": "unclear"}, advice={"problem": "again"}, notes=("a note.",),
    )  # fmt: skip
    head, number, *rest = finding.describe()
    assert head == "[problem] a title"
    assert number.startswith("    V 0.900, chance 0.500")
    assert rest == ["    bad", "    a note.", "    do: again"]
    short = Finding("key", "a title", verdict="ok", says={"else": "unclear"}, advice={"problem": "again"})
    assert short.describe() == ["[ok] a title", "    unclear"]


def test_long_texts_are_wrapped():
    finding = Finding("key", "title", verdict="ok", says={"else": "word " * 60})
    lines = finding.describe()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 112
    assert lines[2].startswith("      word")


def test_json_holds_plain_values():
    details = {"table": np.array([[1, 2]]), "shares": (np.float64(0.5), float("nan")), 3: np.inf}
    finding = Finding(
        "key", "title", result=outcome_of(0.9, 0.002), effect=0.4, verdict="warning", p_adjusted=0.01,
        says={"else": "unclear"}, advice={"warning": "again"}, notes=("note",), details=details,
    )  # fmt: skip
    values = finding.to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == {
        "key": "key", "title": "title", "verdict": "warning", "unit": "balanced accuracy", "number": 0.9,
        "chance": 0.5, "chance_95": 0.55, "p": 0.002, "p_adjusted": 0.01, "effect": 0.4, "permutations": 500,
        "says": "unclear", "do": "again", "notes": ["note"],
        "details": {"table": [[1, 2]], "shares": [0.5, None], "3": None},
    }  # fmt: skip
    assert "number" not in Finding("key", "title", verdict="skipped").to_json()


def test_the_effect_is_the_skill_unless_given():
    result = outcome_of(0.9, 0.002)
    assert Finding("", "", result=result).size == result.skill
    assert Finding("", "", result=result, effect=0.2).size == 0.2
    assert math.isnan(Finding("", "").size)


def test_thresholds_of_the_finding_count():
    made = judge(
        [
            Finding("a", "", result=outcome_of(0.9, 0.002), thresholds=(0.1, math.inf)),
            Finding("b", "", result=outcome_of(0.9, 0.002), effect=0.05),
            Finding("c", "", result=outcome_of(0.9, 0.002), effect=0.05, thresholds=(0.01, 0.05)),
        ]
    )
    assert [finding.verdict for finding in made] == ["warning", "ok", "problem"]
