"""Trials of `recipes.py`: presets with changes, and pairs of trials that differ in one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """A preset with changes.

    Attributes:
        why: what differs from the preset, for the table.
        preset: name.
        changes: arguments as of ``fastcell fit``.
        same_steps: train for as many steps as without oversampling.
        mixup: parameter of the beta distribution of the shares in which two cells are mixed; 0 for no mixing.
        prior_shift: the logarithm of the class frequencies times this is added to the logits in the loss.
        repeat_shift: the same with the mean number of repeats of a cell of each class.
    """

    why: str
    preset: str = "fast"
    changes: str = ""
    same_steps: bool = False
    mixup: float = 0.0
    prior_shift: float = 0.0
    repeat_shift: float = 0.0


_FULL = "--data.balance oversample --model.label_smoothing 0"
_CAP = f"{_FULL} --data.balance_cap"
_NONE = "--data.balance none --model.label_smoothing 0"
_RESIDUAL = "--model.network residual"
_RESIDUAL_48 = f"{_CAP} 10 {_RESIDUAL} --data.image_size 48"
_LONG = f"{_NONE} {_RESIDUAL} --data.image_size 48 --trainer.max_epochs 80"
TRIALS = {
    "fast": Trial("preset fast, classes as they are", changes="--data.balance none"),
    "thorough": Trial("preset thorough", "thorough"),
    "fast-rotation-20": Trial(
        "rotation by up to 20 degrees instead of any angle",
        changes="--data.balance none --data.augmentation.rotation_deg 20",
    ),
    "fast-96": Trial("96 px instead of 64", changes="--data.balance none --data.image_size 96"),
    "demo": Trial("preset demo, classes as they are", "demo", "--data.balance none"),
    "demo-auto": Trial("preset demo, --data.balance auto", "demo"),
    "smooth0": Trial("no label smoothing", changes="--data.balance none --model.label_smoothing 0"),
    "cap4": Trial("repeats up to 4", changes=f"{_CAP} 4"),
    "cap10": Trial("repeats up to 10", changes=f"{_CAP} 10"),
    "full": Trial("repeats without limit", changes=_FULL),
    "full-same": Trial("repeats without limit, steps of fast", changes=_FULL, same_steps=True),
    "full-same-zoom": Trial(
        "the same, magnified by 0.8 to 1.25",
        changes=f"{_FULL} --data.augmentation.scale 0.25",
        same_steps=True,
    ),
    "cap10-shift": Trial(
        "repeats up to 10, logits shifted by half of their logarithm in the loss",
        changes=f"{_CAP} 10",
        repeat_shift=0.5,
    ),
    "cap10-ema": Trial(
        "repeats up to 10, weights averaged",
        changes=f"{_CAP} 10 --model.ema_decay 0.99",
    ),
    "cap10-mixup": Trial("repeats up to 10, mixup 0.2", changes=f"{_CAP} 10", mixup=0.2),
    "cap10-standardize": Trial(
        "repeats up to 10, standardized",
        changes=f"{_CAP} 10 --data.normalization standardize",
    ),
    "residual": Trial("residual network, classes as they are", changes=f"{_NONE} {_RESIDUAL}"),
    "residual-48": Trial(
        "residual network, 48 px, as cap10-shift",
        changes=_RESIDUAL_48,
        repeat_shift=0.5,
    ),
    "residual-48-long": Trial(
        "the same for 80 epochs",
        changes=f"{_RESIDUAL_48} --trainer.max_epochs 80",
        repeat_shift=0.5,
    ),
    "residual-48-long-none": Trial(
        "residual network, 48 px, 80 epochs, classes as they are",
        changes=_LONG,
    ),
    "residual-48-longer-none": Trial("the same for 160 epochs", changes=f"{_LONG} --trainer.max_epochs 160"),
    "residual-48-long-mixup": Trial("80 epochs with mixup 0.2", changes=_LONG, mixup=0.2),
    "residual-48-long-smooth": Trial(
        "80 epochs with label smoothing 0.1", changes=f"{_LONG} --model.label_smoothing 0.1"
    ),
    "residual-48-long-ema": Trial("80 epochs, weights averaged", changes=f"{_LONG} --model.ema_decay 0.998"),
    "residual-48-long-moved": Trial(
        "80 epochs, moved by up to 12 % instead of 5 %", changes=f"{_LONG} --data.augmentation.translation 0.12"
    ),
    "residual-64-long-none": Trial("80 epochs at 64 px", changes=f"{_LONG} --data.image_size 64"),
    "cellnet-long-none": Trial(
        "preset fast for 80 epochs, no label smoothing", changes=f"{_NONE} --trainer.max_epochs 80"
    ),
    "residual-48-mixup": Trial("residual-48 with mixup 0.2", changes=_RESIDUAL_48, mixup=0.2, repeat_shift=0.5),
    "residual-48-slow": Trial(
        "residual-48, learning rate 0.001",
        changes=f"{_RESIDUAL_48} --model.learning_rate 1e-3",
        repeat_shift=0.5,
    ),
    "residual-48-quick": Trial(
        "residual-48, learning rate 0.005",
        changes=f"{_RESIDUAL_48} --model.learning_rate 5e-3",
        repeat_shift=0.5,
    ),
    "weights": Trial("loss weights", changes="--data.balance weights --model.label_smoothing 0"),
    "logit": Trial(
        "logits shifted by the class frequencies in the loss",
        changes="--data.balance none --model.label_smoothing 0",
        prior_shift=1.0,
    ),
}
VIEWS = {"one": "", "flips": " + flips", "eight": " + quarter turns"}
PAIRS = (
    ("fast-96", "flips", "fast", "flips", False),
    ("fast-rotation-20", "flips", "fast", "flips", False),
    ("residual-48", "one", "cap10-shift", "one", False),
    ("residual-48-long-none", "flips", "residual-48-long-none", "one", True),
    ("residual-48-long-none", "eight", "residual-48-long-none", "flips", False),
    ("residual-48-longer-none", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-long-ema", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-long-mixup", "flips", "residual-48-long-none", "flips", False),
    ("residual-48-mixup", "one", "residual-48", "one", False),
    ("residual-48-slow", "one", "residual-48", "one", False),
    ("residual-48-quick", "one", "residual-48", "one", False),
)
"""Trials that differ in one thing: trial and views of a cell, the same of the other, both with `CHOSEN_SHIFT`."""
