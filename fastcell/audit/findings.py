"""Findings of an audit: a number, its chance level, a one-word verdict and advice."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastcell.stats.multiple_testing import holm
from fastcell.stats.permutation import Outcome
from fastcell.system.text import printable

ALPHA = 0.05
NOTEWORTHY = 0.1
"""Smallest effect that raises an alarm, if the number is above chance after correction for all tests."""
FINDING_VERDICTS = ("problem", "warning", "cannot tell", "ok", "skipped")
"""Verdicts in descending order of severity. ``warning`` and ``problem`` are alarms."""
ALARMS = ("problem", "warning")
_WIDTH = 112


@dataclass(frozen=True)
class Finding:
    """The result of one check of a data set.

    Attributes:
        key: short name in audit.json.
        title: heading.
        unit: meaning of the number.
        result: result of the test; None if nothing was tested.
        effect: lower bound of the effect, 0 none to 1 complete; None takes the skill of the result.
        thresholds: smallest effects at which the verdict is a warning and a problem, given a p of at most 0.05 after
            Holm's adjustment; inf for never.
        says: meaning of the number, by verdict; ``else`` for verdicts not listed.
        advice: recommended action, by verdict.
        verdict: fixed verdict, if it does not depend on a test.
        p_adjusted: p adjusted for the number of tests of the audit.
        notes: how the number was found, one sentence each.
        details: more numbers, for audit.json.
    """

    key: str
    title: str
    unit: str = "balanced accuracy"
    result: Outcome | None = None
    effect: float | None = None
    thresholds: tuple[float, float] = (NOTEWORTHY, 0.3)
    says: dict[str, str] = field(default_factory=dict)
    advice: dict[str, str] = field(default_factory=dict)
    verdict: str = ""
    p_adjusted: float = float("nan")
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def tested(self) -> bool:
        """True if the verdict depends on a permutation test."""
        return not self.verdict and self.result is not None and not math.isnan(self.result.p)

    def describe(self) -> list[str]:
        """Return the lines of the report."""
        texts = [f"{self.unit} {describe_result(self.result, self.p_adjusted)}"] if self.result is not None else []
        way = self.advice.get(self.verdict, "")
        message = self.says.get(self.verdict, self.says.get("else", ""))
        texts += [message, *self.notes, f"do: {way}" if way else ""]
        wrapped = [
            textwrap.wrap(printable(text), _WIDTH, initial_indent="    ", subsequent_indent="      ") for text in texts
        ]
        return [f"[{self.verdict}] {self.title}", *(line for lines in wrapped for line in lines)]

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values; NaN becomes None."""
        result = self.result
        values: dict[str, Any] = {"key": self.key, "title": self.title, "verdict": self.verdict}
        if result is not None:
            values |= {"unit": self.unit, "number": result.number, "chance": result.chance}
            values |= {"chance_95": result.chance_high, "p": result.p, "p_adjusted": self.p_adjusted}
            values |= {"effect": self.size, "permutations": result.num_permutations}
        values |= {"says": self.says.get(self.verdict, self.says.get("else", ""))}
        values |= {"do": self.advice.get(self.verdict, ""), "notes": list(self.notes), "details": self.details}
        plain: dict[str, Any] = _plain(values)
        return plain

    @property
    def size(self) -> float:
        """The effect, 0 to 1."""
        if self.effect is not None:
            return self.effect
        return float("nan") if self.result is None else self.result.skill


def beside_chance(p: float, effect: float, noteworthy: float = NOTEWORTHY) -> str:
    """Return whether a number that raised no alarm exceeds the chance level, and why it raised none.

    Args:
        p: p of its test, not adjusted.
        effect: the effect.
        noteworthy: smallest effect that raises an alarm, if the number is above chance after correction for all tests.
    """
    if not p <= ALPHA:
        return "Not above chance"
    return "Small, but above chance" if effect < noteworthy else "Above chance, but not after correction for all tests"


def describe_result(result: Outcome, p_adjusted: float = float("nan")) -> str:
    """Return the result as text.

    For example ``0.620, chance 0.250 (95 % of permutations below 0.270), p 0.002, 0.018 corrected for all tests``.
    """
    text = f"{result.number:.3f}"
    if not math.isnan(result.chance):
        text += f", chance {result.chance:.3f} (95 % of permutations below {result.chance_high:.3f}), p {result.p:.3f}"
    if not math.isnan(p_adjusted):
        text += f", {p_adjusted:.3f} corrected for all tests"
    return text


def judge(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with their verdicts; p-values are adjusted for the number of tests."""
    tested = [finding for finding in findings if finding.tested]
    adjusted = iter(holm([finding.result.p for finding in tested if finding.result is not None]))
    return [_judged(finding, next(adjusted) if finding.tested else float("nan")) for finding in findings]


def _judged(finding: Finding, p_adjusted: float) -> Finding:
    if finding.verdict:
        return finding
    if finding.result is None:
        return replace(finding, verdict="skipped")
    warn, problem = finding.thresholds
    size = finding.size
    if math.isnan(finding.result.p) or finding.result.least_p > ALPHA:
        verdict = "cannot tell"
    elif p_adjusted > ALPHA or size < warn:
        verdict = "ok"
    else:
        verdict = "problem" if size >= problem else "warning"
    return replace(finding, verdict=verdict, p_adjusted=p_adjusted)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
