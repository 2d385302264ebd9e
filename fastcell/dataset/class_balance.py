"""Class balance: oversampling factors and loss weights of a view.

``auto`` depends on the class sizes of the training cells: if the largest class has more than `UNBALANCED` times as many
cells as the smallest, cells of rare classes are repeated, each at most `AUTO_CAP` times.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid

BalanceName = Literal["auto", "none", "oversample", "weights"]

BALANCES: tuple[BalanceName, ...] = get_args(BalanceName)

#: Ratio of the largest to the smallest class above which ``auto`` repeats rare classes.
UNBALANCED = 10
# : Default of the largest mean number of repeats of a cell with ``auto``.
AUTO_CAP = 10.0
# : Maximum length of an epoch with ``auto``, as a multiple of the training cells; with many rare classes it reduces the
# repeats.
AUTO_LENGTH = 2.0
# : Share of the repetition that ``auto`` compensates in the loss; `docs/guides/recipe.md` has the measurement.
SHIFT_OF_REPEATS = 0.5


def check_balance(balance: str, cap: float | None) -> None:
    """Check the name of a balance and the limit of its repeats.

    Raises:
        ArgumentError: the name is unknown, the limit is below 1, or the balance has no repeats to limit.
    """
    if balance not in BALANCES:
        raise invalid("balance", f"one of {', '.join(BALANCES)}", balance, "Take none for classes as they are")
    if cap is None:
        return
    if isinstance(cap, bool) or not isinstance(cap, int | float) or not 1 <= cap < float("inf"):
        raise invalid("balance_cap", "a number of repeats, 1 or more", cap, "Leave it out for the default")
    if balance not in ("auto", "oversample"):
        raise invalid("balance_cap", "left out unless balance is auto or oversample", cap, f"{balance} repeats no cell")


def resolve_balance(
    balance: str, cap: float | None, counts: npt.ArrayLike
) -> tuple[Literal["none", "oversample", "weights"], float | None]:
    """Return the balance with ``auto`` replaced by its choice, and the largest mean number of repeats of a cell.

    Args:
        balance: one of `BALANCES`.
        cap: largest mean number of repeats. None means no limit with ``oversample``. With ``auto`` it means `AUTO_CAP`,
            or less if an epoch would have more than `AUTO_LENGTH` times the cells.
        counts: (K,) cells of each class; classes without cells do not count.
    """
    if balance != "auto":
        return balance, cap  # type: ignore[return-value]
    present = np.asarray(counts)
    present = present[present > 0]
    if present.size < 2 or present.max() <= UNBALANCED * present.min():
        return "none", None
    return "oversample", _auto_cap(present) if cap is None else cap


def _auto_cap(counts: np.ndarray) -> float:
    """Return the largest cap of at most `AUTO_CAP` with which an epoch is not longer than `AUTO_LENGTH`.

    Args:
        counts: (K,) cells of the classes that have some.
    """
    caps = np.unique(counts.max() / counts)  # between these values the length is linear in the cap
    lengths = np.minimum(counts.max(), np.outer(caps, counts)).sum(axis=1) / counts.sum()
    return min(AUTO_CAP, float(np.interp(AUTO_LENGTH, lengths, caps)))


def oversample(rows: np.ndarray, labels: np.ndarray, seed: int, cap: float | None = None) -> np.ndarray:
    """Repeat rows until every class has as many rows as the largest class, or `cap` times its own.

    Each class is repeated whole as often as possible; a seeded random choice of its cells supplies the remainder. Rows
    without a class are kept once.

    Args:
        rows: (n,) int64, cell_ids.
        labels: (n,) int64, class of each row, -1 for none.
        seed: seed of the random choice.
        cap: largest mean number of repeats of a cell, at least 1; None for no limit.

    Returns:
        (m,) int64, the balanced rows in ascending order.
    """
    return np.sort(np.repeat(rows, repeat_counts(labels, seed, cap)))


def repeat_counts(labels: np.ndarray, seed: int, cap: float | None = None) -> np.ndarray:
    """Return how often `oversample` repeats each row, (n,) of the smallest unsigned type that holds the numbers.

    Args:
        labels: (n,) integers, class of each row, -1 for none.
        seed: seed of the random choice.
        cap: largest mean number of repeats of a cell, at least 1; None for no limit.
    """
    counts = np.bincount(labels[labels >= 0])
    target = int(counts.max(initial=0))
    wanted = [target if cap is None else min(target, int(cap * int(count))) for count in counts]
    most = max((want // int(count) + 1 for want, count in zip(wanted, counts, strict=True) if count), default=1)
    repeats = np.ones(len(labels), np.min_scalar_type(most))
    for label in np.flatnonzero(counts):
        cells = np.flatnonzero(labels == label)
        whole, rest = divmod(wanted[label], len(cells))
        repeats[cells] = whole
        repeats[np.random.default_rng([seed, 2, int(label)]).permutation(cells)[:rest]] += 1
    return repeats


def logit_shift(repeats: npt.ArrayLike) -> np.ndarray:
    """Return the shift that ``auto`` adds to the logits in the training loss.

    A network trained on repeated cells overestimates the frequency of rare classes by the number of repeats. With half
    the logarithm of the repeats added in the loss, the overestimate is only the square root of the repeats: more cells
    of rare classes are found than without repeats, and the accuracy is not reduced (docs/guides/recipe.md).

    Source: Menon et al., Long-tail learning via logit adjustment, ICLR 2021, arxiv.org/abs/2007.07314.

    Args:
        repeats: (K,) mean number of repeats of a cell of each class; 0 for a class without cells.

    Returns:
        (K,) float32; 0 for a class whose cells are not repeated, or that has none.
    """
    return (SHIFT_OF_REPEATS * np.log(np.maximum(np.asarray(repeats, np.float64), 1.0))).astype(np.float32)


def class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return inverse class frequencies as loss weights.

    Args:
        labels: (n,) int64, class of each row, -1 for none.
        num_classes: number of classes, K.

    Returns:
        (K,) float32, scaled so that the mean weight over the labelled rows is 1; 0 for a class without rows.
    """
    return weights_of_counts(np.bincount(labels[labels >= 0], minlength=num_classes))


def weights_of_counts(counts: np.ndarray) -> np.ndarray:
    """Return the loss weights of `class_weights`, given (K,) numbers of rows of the classes."""
    counts = counts.astype(np.float64)
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)
