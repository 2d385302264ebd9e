"""Cautions about classes that a run can hardly learn or score, and the treatment of rare classes in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.dataset.views import View
from fastcell.system.text import list_names

FEW_CELLS = 20
"""Number of training cells below which a caution names a class: whether a network finds such a class depends on the
seed.
"""


def training_cautions(
    classes: Sequence[str], train: npt.ArrayLike, valid: npt.ArrayLike | None, select: str
) -> list[str]:
    """Return cautions that are known before training.

    Args:
        classes: names of the K classes.
        train: (K,) training cells of each class.
        valid: (K,) validation cells of each class; None without validation.
        select: weights that are scored, ``best`` or ``last``.
    """
    counts, found = np.asarray(train), []
    few = np.flatnonzero((counts < FEW_CELLS) & (counts > 0))
    if len(few):
        named = list_names([f"{classes[k]} {counts[k]:,}" for k in sorted(few.tolist(), key=lambda k: counts[k])])
        found.append(
            f"Caution: classes with fewer than {FEW_CELLS} training cells: {named}. Whether they are found depends on "
            "chance: repeat the run with other seeds (--seed_everything), or add cells."
        )
    none = [classes[k] for k in np.flatnonzero(counts == 0).tolist()]
    if none:
        then = "The network cannot learn to predict them."
        found.append(f"Caution: classes without training cells: {list_names(none)}. {then}")
    held = np.flatnonzero(np.asarray([] if valid is None else valid))
    if len(held) == 1:
        then = ": the lowest validation loss prefers this class. --select last takes the last weights."
        found.append(
            f"Caution: all cells of the validation subset are of class {classes[held[0]]}"
            + (then if select == "best" else ", so that the validation loss is about this class alone.")
        )
    return found


def call_cautions(classes: Sequence[str], confusion: npt.ArrayLike, part: str) -> list[str]:
    """Return cautions about classes that occur in a scored subset but are never predicted there.

    Args:
        classes: names of the K classes.
        confusion: (K, K) counts, rows = true class, columns = predicted class.
        part: ``train``, ``valid`` or ``test``.
    """
    table = np.asarray(confusion)
    cells = table.sum(axis=1)
    missing = np.flatnonzero((table.sum(axis=0) == 0) & (cells > 0))
    if not len(missing):
        return []
    named = list_names([f"{classes[k]} ({cells[k]:,} cell{'' if cells[k] == 1 else 's'})" for k in missing.tolist()])
    never = f"Caution: classes that are never predicted on the {SUBSET_NAMES[part]} subset: {named}."
    return [f"{never} Their recall is 0, and their precision is undefined."]


def describe_balance(view: View, balance: str) -> str | None:
    """Return one line about repeated classes, with cost and gain of the repetition; None if no cell is repeated.

    Args:
        view: the training rows, repeats included.
        balance: requested setting.
    """
    cells, rows = view.cell_counts(), view.class_counts()
    if view.class_weights is not None or np.array_equal(cells, rows):
        return None
    present = np.flatnonzero(cells)
    least, most = present[cells[present].argmin()], present[cells[present].argmax()]
    names, repeats = view.manifest.info.classes, rows[present] / cells[present]
    why = f"{names[most]} has {cells[most] / cells[least]:,.0f} times as many training cells as {names[least]}"
    back = " The loss compensates half of the repetition, which keeps the accuracy." if balance == "auto" else ""
    return (
        f"rare classes are repeated up to {repeats.max():.3g} times (--data.balance {balance}): {why}. "
        f"Cost: an epoch has {rows.sum() / cells.sum():.2f} times the cells. Gain: more cells of rare classes are "
        f"found, and some other cells are mistaken for them.{back} --data.balance none turns this off; "
        "--preset thorough is a longer recipe for rare classes."
    )


def describe_shift(classes: Sequence[str], counts: npt.ArrayLike, strength: float) -> str | None:
    """Return one line about `decision_shift`, with cost and gain; None without a shift.

    Args:
        classes: names of the K classes.
        counts: (K,) training cells of each class.
        strength: ``--model.decision_shift``.
    """
    cells = np.asarray(counts)
    if not strength or not cells.any():
        return None
    factors = 1 + strength * cells.sum() / np.where(cells > 0, cells, np.inf)
    least, most = (np.flatnonzero(factors == value)[0] for value in (factors.max(), factors[cells > 0].min()))
    return (
        f"decisions are shifted towards rare classes (--model.decision_shift {strength:g}): in evaluation the "
        f"probability of {classes[least]} counts {factors[least]:.3g} times, that of {classes[most]} "
        f"{factors[most]:.3g} times. Gain: more cells of rare classes are found. Cost: some other cells are mistaken "
        "for them, and probabilities of rare classes are higher than their frequency. --model.decision_shift 0 turns "
        "this off."
    )
