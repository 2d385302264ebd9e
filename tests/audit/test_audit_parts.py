"""Background, files, tables and findings: the parts of an audit by themselves."""

import cv2
import numpy as np
import pytest

from fastcell.audit.background import BACKGROUND_FEATURES, background_features
from fastcell.audit.file_properties import file_settings, plain_sizes
from fastcell.audit.findings import Finding, judge
from fastcell.audit.table_findings import duplicate_finding
from fastcell.splits.copies.exact import exact_sets
from fastcell.stats.permutation import Outcome


def named(values):
    return dict(zip(BACKGROUND_FEATURES, values.tolist(), strict=True))


def test_background_by_hand():
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[:, -6:] = 108
    pixels[10:30, 10:40] = 250  # a cell
    found = named(background_features(pixels, np.ones((40, 60), bool)))
    assert found["level"] == 100
    assert found["slope_x"] == pytest.approx(8)
    assert found["slope_y"] == pytest.approx(0)
    assert found["share_of_255"] == 0


def test_what_lies_inside_the_frame_is_not_seen():
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (50, 80)).astype(np.uint8)
    other = pixels.copy()
    other[5:-5, 8:-8] = rng.integers(0, 255, (40, 64))
    everywhere = np.ones(pixels.shape, bool)
    assert background_features(pixels, everywhere).tolist() == background_features(other, everywhere).tolist()


def test_a_cell_in_the_frame_is_masked_or_refused():
    pixels = np.full((50, 80), 100, np.uint8)
    mask = np.ones(pixels.shape, bool)
    pixels[:10, :20], mask[:10, :20] = 255, False
    found = named(background_features(pixels, mask))
    assert (found["level"], found["spread"], found["slope_x"]) == (100, 0, 0)
    assert np.isnan(background_features(pixels, np.zeros(pixels.shape, bool))).all()
    assert np.isnan(background_features(pixels[:4], mask[:4])).all()


def test_settings_of_files_follow_the_writer_not_the_picture():
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 255, (size, 30)).astype(np.uint8) for size in (20, 70)]

    def write(ending, cell, *options):
        return cv2.imencode(ending, cell, list(options))[1].tobytes()

    quality = cv2.IMWRITE_JPEG_QUALITY
    jpg = [file_settings(write(".jpg", cell, quality, 75), "jpg") for cell in cells]
    assert jpg[0] == jpg[1]
    assert file_settings(write(".jpg", cells[0], quality, 76), "jpg")[0] != jpg[0][0]
    fitted = [file_settings(write(".jpg", cell, quality, 75, cv2.IMWRITE_JPEG_OPTIMIZE, 1), "jpg") for cell in cells]
    assert fitted[0] == fitted[1] != jpg[0]
    assert fitted[0][0] != jpg[0][0]
    png = [file_settings(write(".png", cell), "png") for cell in cells]
    assert png[0] == png[1]
    tagged = write(".png", cells[0])
    tagged = tagged[:33] + b"\0\0\0\5tEXthello" + b"\0" * 4 + tagged[33:]
    assert file_settings(tagged, "png") == (png[0][0], png[0][1] + 17)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xdb\0\0" * 9, b"\xff\xd8" + b"\xff" * 99])
def test_settings_of_headers_that_lie_end(data):
    for encoding in ("jpg", "png", "tif", "npy"):
        assert file_settings(data, encoding)[1] <= max(len(data), 0)


def test_plain_sizes():
    cell = np.zeros((64, 64), np.uint8)
    quick, whole = plain_sizes(cell, "png", 999)
    assert 0 < whole <= quick < 400
    assert plain_sizes(cell, "jpg", 999) == (999, 999)


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


def test_copies_on_two_sides(make_audit_set):
    manifest = make_audit_set(copies=True)
    found = duplicate_finding(manifest, exact_sets(manifest, jobs=1))
    assert found.verdict == "problem"
    assert found.details["sets"] == 1
    assert found.details["two_classes"] == 1
    assert "two sides of a split" in found.says["else"]
    clean = make_audit_set()
    assert duplicate_finding(clean, exact_sets(clean, jobs=1)).verdict == "ok"
