"""Confounders: class information outside the cell, and recording information in the cell images.

The confounders of the class are background, brightness, image size and the file. Brightness, size and bytes of an image
may depend on the cell itself: a larger cell gives a larger crop. The report gives each of them unchanged, but the
verdict rests on the part that is independent of the cell: the background level, the size beyond what the cell's extent
explains, and the bytes beyond what the pixels require. Everything that the cell can explain is attributed to the cell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.audit.background import BACKGROUND_FEATURES
from fastcell.audit.findings import NOTEWORTHY, Finding, beside_chance
from fastcell.audit.permutation_designs import ClassDesign, class_design, recording_designs
from fastcell.audit.sample import CellSample
from fastcell.stats.permutation import (
    Design,
    Floats,
    Outcome,
    center,
    normal_scores,
    outcome,
    permutation_test,
    permuted_rates,
    with_squares,
)
from fastcell.system.text import list_names

IMAGE_COMPONENTS = 64
_BLACK = 3.0  # grey levels
_EVEN = 0.05
"""Largest ratio of background spread to cell contrast at which the background is certain to contain no cell.

Above it (dense cells, crops of tissue or clusters, noise), parts that do not stand out may still be cell. The ratio is
0.02 in ATOM and ImageStream cells, and 0.08 in T cells cropped from a dense field.
"""
_MOST_SETTINGS = 8
_MIX = (
    "record every class in every recording and in changing order; until then test on whole recordings only (name them "
    "as groups in `pack --pattern`), and do not rely on the accuracy of a random split"
)
_REWRITE = "write all images again with one program and the same settings, from the originals if possible"


def image_features(sample: CellSample, seed: int = 0) -> Floats:
    """Compute features of the whole image, (n, 64 + F).

    They are 64 principal components of the 32 x 32 pixels, divided by their mean, and the normal scores of the quality
    features.
    """
    from sklearn.decomposition import PCA

    flat = sample.images.reshape(len(sample), -1).astype(np.float32)
    flat = flat / np.maximum(flat.mean(1, keepdims=True), 1.0)
    num = min(IMAGE_COMPONENTS, len(sample) - 1, flat.shape[1])
    parts = PCA(num, svd_solver="randomized", random_state=seed).fit_transform(flat)
    return np.hstack([parts, normal_scores(sample.quality)])


def class_findings(sample: CellSample, images: Floats, permutations: int, rng: np.random.Generator) -> list[Finding]:
    """Test whether background, brightness, size or file predict the class.

    Args:
        sample: the cells.
        images: (n, p) from `image_features`.
        permutations: R.
        rng: generator for the permutations.
    """
    keys = {
        "class_from_background": "class from the background alone",
        "class_from_intensity": "class from the mean intensity alone",
        "class_from_size": "class from the image size alone",
        "class_from_file": "class from the file alone",
    }
    everywhere = np.ones(len(sample), bool)
    whole = class_design(sample.labels, sample.groups, everywhere)
    if whole.design is None:
        verdict = "cannot tell" if whole.alone else "skipped"
        notes = (f"not tested: {whole.why_not}.",)
        return [Finding(key, title, verdict=verdict, notes=notes) for key, title in keys.items()]
    known = np.asarray(np.isfinite(sample.backgrounds).all(1))
    with_background = class_design(sample.labels, sample.groups, known)
    made = _Maker(sample, permutations, rng)
    background, intensity, size, file = keys.items()
    return [
        _background(made, *background, with_background, images),
        _intensity(made, *intensity, with_background),
        _size(made, *size, whole),
        _file(made, *file, whole),
    ]


class _Maker:
    """Sample, permutations and tests that all class findings share."""

    def __init__(self, sample: CellSample, permutations: int, rng: np.random.Generator) -> None:
        self.sample, self.permutations, self.rng = sample, permutations, rng

    def test(self, features: Floats, design: Design, permutations: int | None = None) -> Any:
        return permutation_test(features, design, self.permutations if permutations is None else permutations, self.rng)

    @property
    def certain(self) -> bool:
        """True if cells have so much contrast that all other pixels are certainly background."""
        spread = self.sample.backgrounds[:, BACKGROUND_FEATURES.index("spread")]
        uneven = spread / np.maximum(self.sample.feature("contrast"), 1)
        return bool(np.isfinite(uneven).any() and np.nanmedian(uneven) <= _EVEN)

    def notes(self, found: ClassDesign, result: Outcome | None = None) -> tuple[str, ...]:
        sample, design = self.sample, found.design
        assert design is not None
        notes = [f"{len(design.rows):,} cells of {design.num_classes} classes; {found.describe()}."]
        if found.alone:
            names = list_names([sample.classes[label] for label in found.alone])
            notes.append(f"Left out: {names}, which occur in one group only.")
        if result is not None and design.num_classes > 2 and result.best >= NOTEWORTHY:
            notes.append(f"Recognised best: {sample.classes[found.classes[result.best_label]]}.")
        return tuple(notes)


def _background(made: _Maker, key: str, title: str, found: ClassDesign, images: Floats) -> Finding:
    if found.design is None:
        return _no_background(key, title, found)
    design = found.design
    features = made.sample.backgrounds[design.rows]
    result = made.test(with_squares(features), _packed(design))
    whole = made.test(images, design, 0).number
    shares = _shares(features, design)
    telling = [f"{BACKGROUND_FEATURES[i]} ({shares[i]:.0%})" for i in np.argsort(-shares)[:3]]
    strongest = f"Features that differ most (share of their variance that the class explains): {', '.join(telling)}."
    alarm = f"The background predicts the class without the cell; whole images give {whole:.3f}. {strongest}"
    most = 0.3
    if not made.certain:
        most = math.inf
        alarm = (
            f"The pixels outside the cell predict the class; whole images give {whole:.3f}. {strongest} But these "
            "pixels are uneven, as if frames contained parts of other cells: the cause may be biology or illumination."
        )
    return Finding(
        key, title, result=result, notes=made.notes(found, result), thresholds=(NOTEWORTHY, most),
        says={"problem": alarm, "warning": alarm, "cannot tell": _few(found),
              "ok": f"{beside_chance(result.p, result.skill)}; whole images give {whole:.3f}."},
        advice={"problem": _MIX, "warning": _MIX, "cannot tell": "record each class in more groups"},
        details={"kind": found.kind, "whole_image": whole,
                 "explained": dict(zip(BACKGROUND_FEATURES, shares.tolist(), strict=True))},
    )  # fmt: skip


def _intensity(made: _Maker, key: str, title: str, found: ClassDesign) -> Finding:
    if found.design is None:
        return _no_background(key, title, found)
    design = found.design
    whole = made.test(with_squares(made.sample.feature("mean_intensity")[:, None]), design)
    level = made.sample.backgrounds[:, BACKGROUND_FEATURES.index("level")]
    result = made.test(with_squares(level[design.rows][:, None]), _packed(design))
    alone = f"The mean of the whole image gives {whole.number:.3f} (chance {whole.chance:.3f})"
    details = {"kind": found.kind, "whole_image": whole.number, "whole_image_chance": whole.chance}
    black = np.quantile(level[design.rows], 0.95) <= _BLACK
    if black or not made.certain:
        why = "black" if black else "not clearly separable from cells"
        says = f"{alone}, and the background is {why}: the images do not show whether cells or exposure differ."
        verdict = "cannot tell" if whole.skill >= NOTEWORTHY else "ok"
        advice = {"cannot tell": "record a reference (beads, a calibration slide) with every class"}
        return Finding(
            key, title, verdict=verdict, says={"else": says}, advice=advice, notes=made.notes(found), details=details
        )
    alarm = f"{alone}. The level of the background (above) predicts the class too: illumination differs, not the cells."
    return Finding(
        key, title, unit="level of the background: balanced accuracy", result=result, notes=made.notes(found),
        says={"problem": alarm, "warning": alarm, "cannot tell": f"{alone}. {_few(found)}",
              "ok": f"{alone}. The level of the background does not predict it, so any effect comes from the cells."},
        advice={"problem": _MIX, "warning": _MIX, "cannot tell": "record each class in more groups"},
        details=details,
    )  # fmt: skip


def _size(made: _Maker, key: str, title: str, found: ClassDesign) -> Finding:
    assert found.design is not None
    design, sample = found.design, made.sample
    sides = np.log(np.stack([sample.feature("height"), sample.feature("width")], axis=1).astype(np.float64))
    if not (sides[design.rows].std(0) > 1e-9).any():
        return Finding(key, title, verdict="ok", says={"else": "All images have one size."})
    whole = made.test(with_squares(sides), design)
    alone = f"The size alone gives {whole.number:.3f} (chance {whole.chance:.3f})"
    details = {"kind": found.kind, "size": whole.number, "size_chance": whole.chance}
    seen = class_design(sample.labels, sample.groups, np.asarray(np.isfinite(sample.extents).all(1)))
    if seen.design is None or len(seen.design.rows) < 0.5 * len(design.rows) or not made.certain:
        verdict = "cannot tell" if whole.skill >= NOTEWORTHY else "ok"
        return Finding(
            key, title, verdict=verdict, details=details, notes=made.notes(found),
            says={"else": f"{alone}. The extent of the cells cannot be measured: their size may be the cause."},
            advice={"cannot tell": "cut all frames to one size"},
        )  # fmt: skip
    extents = np.log(np.maximum(sample.extents[seen.design.rows].astype(np.float64), 1))
    result = made.test(with_squares(_beyond(sides[seen.design.rows], extents)), _packed(seen.design))
    alarm = f"{alone}, also after correction for the extent of the cells: frames were cut differently."
    way = (
        "cut all frames by one rule, or to one size; `--data.fit contain` or `scale` keeps frames from being stretched"
    )
    return Finding(
        key, title, unit="size beyond the cell's extent: balanced accuracy", result=result, notes=made.notes(seen),
        says={"problem": alarm, "warning": alarm, "cannot tell": f"{alone}. {_few(seen)}",
              "ok": f"{alone}; the extent of the cells explains it, almost or completely."},
        advice={"problem": way, "warning": way, "cannot tell": "record each class in more groups"},
        details=details,
    )  # fmt: skip


def _file(made: _Maker, key: str, title: str, found: ClassDesign) -> Finding:
    assert found.design is not None
    design, sample = found.design, made.sample
    stored, extra, quick, whole_size = (np.log1p(column) for column in sample.file_bytes.T)
    names, counts = np.unique(sample.settings[design.rows], return_counts=True)
    common = names[np.argsort(-counts, kind="stable")][:_MOST_SETTINGS]
    settings = (sample.settings[:, None] == common[None, :]).astype(np.float64)
    if len(names) == 1 and sample.settings[design.rows[0]].startswith(("raw", "npy")):
        return Finding(
            key, title, verdict="ok", says={"else": "The set has raw pixels, without properties of the original files."}
        )
    area = np.log(sample.feature("height").astype(np.float64) * sample.feature("width"))
    whole = made.test(np.hstack([with_squares(np.stack([stored, extra], axis=1)), settings]), design)
    need = np.stack([quick, whole_size, quick - area], axis=1)[design.rows]
    left = _beyond(stored[design.rows][:, None], need)
    beyond = np.hstack([with_squares(np.hstack([left, extra[design.rows][:, None]])), settings[design.rows]])
    result = made.test(beyond, _packed(design))
    alone = f"Bytes and settings of the files alone give {whole.number:.3f} (chance {whole.chance:.3f})"
    kinds = f"{len(names)} ways of writing files" if len(names) > 1 else "one way of writing files"
    written = "the files of classes were written differently."
    if len(names) == 1:
        written = "files of one setting were written differently, or the texture of the cells takes more bytes."
    alarm = f"{alone}, also after correction for the pixels ({kinds}): {written}"
    return Finding(
        key, title, unit="bytes beyond those that the pixels need, and settings: balanced accuracy", result=result,
        notes=made.notes(found),
        says={"problem": alarm, "warning": alarm, "cannot tell": f"{alone}. {_few(found)}",
              "ok": f"{alone}; the pixels explain it ({kinds})."},
        advice={"problem": _REWRITE, "warning": _REWRITE, "cannot tell": "record each class in more groups"},
        details={"kind": found.kind, "file": whole.number, "file_chance": whole.chance,
                 "settings": dict(zip(names.tolist()[:50], counts.tolist()[:50], strict=True))},
    )  # fmt: skip


def recording_finding(
    key: str,
    what: str,
    recordings: npt.NDArray[np.str_] | None,
    sample: CellSample,
    images: Floats,
    permutations: int,
    rng: np.random.Generator,
) -> Finding:
    """Test whether images of one class predict the recording in which they were taken.

    Args:
        key: key of the finding.
        what: ``group`` or ``collection``.
        recordings: (n,) str.
        sample, images, permutations, rng: as for `class_findings`.
    """
    title = f"{what} from the cell images"
    if recordings is None or len(np.unique(recordings[recordings != ""])) < 2:
        return Finding(key, title, verdict="skipped", notes=(f"no cells of two {what}s.",))
    designs = recording_designs(recordings, sample.labels, np.ones(len(sample), bool))
    if not designs:
        return Finding(
            key, title, verdict="cannot tell",
            says={"else": f"No class occurs in two {what}s with 10 cells each: differences may be due to the class."},
            advice={"cannot tell": f"record classes in several {what}s"},
        )  # fmt: skip
    runs = [permuted_rates(images, design, permutations, rng) for design, _ in designs]
    recalls = np.concatenate([rates[0] for rates, _ in runs])
    null = np.concatenate([chance[:, 0] for _, chance in runs], axis=1).mean(1)
    arrangements = min(1e300, float(np.exp(min(690, sum(math.log(d.num_arrangements()) for d, _ in designs)))))
    result = outcome(recalls.mean(), null, arrangements)
    names = sorted({name for _, named in designs for name in named})
    best: dict[str, list[float]] = {}
    for (_, named), run in zip(designs, runs, strict=True):
        for name, recall in zip(named, run[0][0].tolist(), strict=True):
            best.setdefault(name, []).append(recall)
    mean = {name: float(np.mean(values)) for name, values in best.items()}
    telling = sorted(mean, key=lambda name: -mean[name])[:3]
    alarm = (
        f"Single cell images predict the {what} within a class; most reliably for "
        f"{', '.join(f'{name} ({mean[name]:.2f})' for name in telling)}."
    )
    way = (
        f"never split at random: keep each {what} in one subset (groups in `pack --pattern`, `--folds groups`), and "
        f"report scores by {what}"
    )
    return Finding(
        key, title, unit=f"balanced accuracy among {what}s of the same class", result=result,
        thresholds=(NOTEWORTHY, math.inf),
        says={"warning": alarm, "ok": f"{beside_chance(result.p, result.skill)}."},
        advice={"warning": way},
        notes=(f"{len(names)} {what}s in {len(designs)} classes; labels permuted within the class.",),
        details={"recall": mean},
    )  # fmt: skip


def _packed(design: Design) -> Design:
    """Return the same design for an array that holds only the features of its rows."""
    return Design(
        np.arange(len(design.rows)), design.labels, design.folds, design.units, design.strata, design.centered
    )


def _beyond(values: Floats, explaining: Floats) -> Floats:
    """Return the residuals of values (n, t) after a quadratic regression on (n, q), fitted without the classes."""
    terms = with_squares(explaining)
    pairs = [terms[:, i] * terms[:, j] for i in range(explaining.shape[1]) for j in range(i)]
    base = np.column_stack([np.ones(len(values)), explaining - explaining.mean(0), terms, *pairs])
    weights, *_ = np.linalg.lstsq(base, values, rcond=None)
    left = values - base @ weights
    # Residuals below a thousandth of the spread are rounding errors and count as 0.
    return np.where(left.std(0) > 1e-3 * np.maximum(values.std(0), 1e-12), left, 0.0)


def _shares(features: Floats, design: Design) -> Floats:
    """Return the share of the variance of each ranked feature that the class explains, (p,).

    If the design is centered, the shares are computed within strata.
    """
    scores = normal_scores(features)
    if design.centered:
        scores = np.asarray(center(scores, design.strata), np.float64)
    scores = scores - scores.mean(0)
    total = (scores**2).sum(0)
    within = (center(scores, design.labels) ** 2).sum(0)
    return np.where(total > 1e-9, 1 - within / np.maximum(total, 1e-9), 0.0)


def _few(found: ClassDesign) -> str:
    return "There are too few groups for a test." if found.kind == "nested" else "There are too few cells for a test."


def _no_background(key: str, title: str, found: ClassDesign) -> Finding:
    return Finding(
        key, title, verdict="cannot tell",
        says={"else": "Cells fill their frames: there is too little background for a test."},
        notes=(f"not tested: with enough background, {found.why_not}.",),
        advice={"cannot tell": "cut frames with a margin around the cell"},
    )  # fmt: skip
