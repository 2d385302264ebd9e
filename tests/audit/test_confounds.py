"""Confounders that are planted in the measured numbers of cells are found; the others are not."""

import numpy as np
import pytest

from fastcell.audit.background import BACKGROUND_FEATURES
from fastcell.audit.confounds import class_findings, image_features, recording_finding
from fastcell.audit.findings import judge
from fastcell.audit.sample import CellSample
from fastcell.quality.features import FEATURES

NUM = 240


def make_sample(seed=0, **planted):
    """240 cells of classes A and B in turn, 20 px of margin around cells of 20 to 40 px; fields as given."""
    rng = np.random.default_rng(seed)
    labels = np.arange(NUM) % 2
    quality = rng.normal(50, 5, (NUM, len(FEATURES))).astype(np.float32)
    extents = rng.integers(20, 40, (NUM, 3)).astype(np.float32)
    for place, name in enumerate(("height", "width")):
        quality[:, FEATURES.index(name)] = extents[:, 1 + place] + 20
    quality[:, FEATURES.index("contrast")] = 100
    backgrounds = rng.normal(100, 3, (NUM, len(BACKGROUND_FEATURES))).astype(np.float32)
    backgrounds[:, BACKGROUND_FEATURES.index("spread")] = rng.normal(2, 0.1, NUM)
    need = rng.integers(500, 900, (NUM, 2)).astype(float)
    file_bytes = np.column_stack([need[:, 0] + 100, np.full(NUM, 100), need])
    fields = {
        "rows": np.arange(NUM), "keys": np.arange(NUM).astype(str), "labels": labels, "classes": ["A", "B"],
        "groups": None, "collections": None, "images": rng.integers(0, 255, (NUM, 32, 32)).astype(np.uint8),
        "quality": quality, "backgrounds": backgrounds, "extents": extents, "settings": np.full(NUM, "png 1"),
        "file_bytes": file_bytes, "grey": np.zeros((3, 32, 32)), "weight": np.zeros((3, 32, 32)),
    }  # fmt: skip
    for name, change in planted.items():
        fields[name] = change(fields[name], labels)
    return CellSample(**fields)


def find(sample, images=None):
    images = np.random.default_rng(1).normal(size=(NUM, 3)) if images is None else images
    found = judge(class_findings(sample, images, 199, np.random.default_rng(2)))
    return {finding.key.removeprefix("class_from_"): finding for finding in found}


def add(column, amount):
    def change(values, labels):
        values[:, column] += amount * labels
        return values

    return change


def test_nothing_planted_nothing_found():
    found = find(make_sample())
    assert {key: finding.verdict for key, finding in found.items()} == dict.fromkeys(
        ["background", "intensity", "size", "file"], "ok"
    )
    assert "the extent of the cells explains it" in found["size"].says["ok"]


def test_a_brighter_background_is_found_by_background_and_intensity():
    level = BACKGROUND_FEATURES.index("level")
    found = find(make_sample(backgrounds=add(level, 9), quality=add(FEATURES.index("mean_intensity"), 9)))
    assert [found[key].verdict for key in found] == ["problem", "problem", "ok", "ok"]
    assert found["background"].result.number > 0.8
    explained = found["background"].details["explained"]
    assert max(explained, key=explained.get) == "level"
    assert "level (" in found["background"].says["problem"]
    assert "illumination differs, not the cells" in found["intensity"].says["problem"]


def test_brighter_cells_on_the_same_background_are_the_cells_own():
    found = find(make_sample(quality=add(FEATURES.index("mean_intensity"), 20)))
    assert found["intensity"].verdict == "ok"
    assert found["intensity"].details["whole_image"] > 0.9


def test_a_black_background_tells_nothing_of_exposure():
    def black(values, labels):
        values[:, BACKGROUND_FEATURES.index("level")] = 0
        return values

    found = find(make_sample(backgrounds=black, quality=add(FEATURES.index("mean_intensity"), 20)))
    assert found["intensity"].verdict == "cannot tell"
    assert "the background is black" in found["intensity"].says["else"]


def test_an_uneven_background_is_no_problem_for_sure():
    def uneven(values, labels):
        values[:, BACKGROUND_FEATURES.index("spread")] = 20  # a fifth of the contrast
        values[:, 0] += 9 * labels
        return values

    found = find(make_sample(backgrounds=uneven))
    assert found["background"].verdict == "warning"
    assert "the cause may be biology" in found["background"].says["warning"]


def test_frames_cut_wider_for_one_class():
    found = find(make_sample(quality=add(FEATURES.index("height"), 6)))
    assert [found[key].verdict for key in ("background", "size", "file")] == ["ok", "problem", "ok"]


def test_larger_cells_make_larger_frames():
    def larger(values, labels):
        values[:, 1] += 12 * labels
        return values

    sample = make_sample(extents=larger)
    sample.quality[:, FEATURES.index("height")] = sample.extents[:, 1] + 20
    found = find(sample)
    assert found["size"].details["size"] > 0.7
    assert found["size"].verdict == "ok"


def test_one_size_and_raw_pixels():
    sample = make_sample(settings=lambda values, labels: np.full(NUM, "raw, 8 bit"))
    sample.quality[:, :2] = 64
    found = find(sample)
    assert found["size"].says["else"] == "All images have one size."
    assert found["file"].says["else"].startswith("The set has raw pixels")


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        ({"settings": lambda values, labels: np.where(labels > 0, "png 1", "png 2")}, "2 ways of writing files"),
        ({"file_bytes": add(1, 50)}, "one way of writing files"),
        ({"file_bytes": add(0, 300)}, "one way of writing files"),
    ],
)
def test_files_written_differently(planted, kinds):
    found = find(make_sample(**planted))
    assert [found[key].verdict for key in ("background", "size", "file")] == ["ok", "ok", "problem"]
    assert kinds in found["file"].says["problem"]
    assert found["file"].details["file"] > 0.8


def test_textured_cells_take_more_bytes_of_their_own():
    def textured(values, labels):
        values[:, [0, 2, 3]] += 400 * labels[:, None]  # stored, and what the pixels need
        return values

    found = find(make_sample(file_bytes=textured))
    assert found["file"].verdict == "ok"
    assert found["file"].details["file"] > 0.8


def test_one_class_cannot_be_told():
    sample = make_sample(labels=lambda values, labels: labels * 0)
    found = find(sample)
    assert {finding.verdict for finding in found.values()} == {"skipped"}
    assert found["size"].notes == ("not tested: one class has 5 usable cells or more.",)
    sample = make_sample(groups=lambda values, labels: np.where(labels > 0, "g1", "g2"))
    assert {finding.verdict for finding in find(sample).values()} == {"cannot tell"}


def test_cells_that_fill_their_frames():
    found = find(make_sample(backgrounds=lambda values, labels: values * np.nan))
    assert found["background"].verdict == found["intensity"].verdict == "cannot tell"
    assert "too little background for a test" in found["background"].says["else"]


def test_recordings_are_told_within_a_class():
    sample = make_sample()
    recordings = np.array(["r1", "r2", "r3"])[np.arange(NUM) // 2 % 3]
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(NUM, 4))
    shifted = noise + 4 * (recordings == "r2")[:, None]

    def finding(images, names=recordings):
        return judge([recording_finding("group_from_image", "group", names, sample, images, 199, rng)])[0]

    assert finding(noise).verdict == "ok"
    alarm = finding(shifted)
    assert alarm.verdict == "warning"
    assert max(alarm.details["recall"], key=alarm.details["recall"].get) == "r2"
    assert "most reliably for r2 (" in alarm.says["warning"]
    assert finding(noise, None).verdict == "skipped"
    by_class = np.where(sample.labels > 0, "r1", "r2")
    assert finding(shifted, by_class).verdict == "cannot tell"


def test_features_of_images_do_not_see_their_brightness():
    sample = make_sample()
    half = CellSample(**{**vars(sample), "images": (sample.images // 2 * 2).astype(np.uint8)})
    quarter = CellSample(**{**vars(sample), "images": (sample.images // 2).astype(np.uint8)})
    np.testing.assert_allclose(image_features(half)[:, :64], image_features(quarter)[:, :64], atol=1e-4)
    assert image_features(half).shape == (NUM, 64 + len(FEATURES))
