"""What stands out of a set is found and named; what all share is not."""

import cv2
import numpy as np
import pytest

from fastcell.quality.faults import LEAST_COMPARED_CELLS, outlier_scores
from fastcell.quality.simulated_model import features_of


def cell(seed, x=20.0, y=20.0, radius=9.0, contrast=70.0, blur=0.7, second=None):
    """(40, 40) uint8 with a disc, or two, on noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :40]
    image = np.zeros((40, 40))
    for center_x, center_y, size in [(x, y, radius), *([second] if second else [])]:
        inside = np.hypot(rows - center_y, columns - center_x) <= size
        image[inside] = contrast + 0.25 * contrast * cv2.GaussianBlur(rng.normal(size=(40, 40)), (0, 0), 1)[inside]
    image = cv2.GaussianBlur(image, (0, 0), blur)
    return np.clip(np.rint(90 + image + rng.normal(0, 1.5, image.shape)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def bulk():
    rng = np.random.default_rng(1)
    return [
        cell(seed, 20 + rng.normal(0, 0.7), 20 + rng.normal(0, 0.7), 9 + rng.normal(0, 0.8), 70 + rng.normal(0, 5))
        for seed in range(200)
    ]


ODD = {
    "cut": cell(1001, x=1),
    "doublet": cell(1002, x=10, radius=6, second=(30, 20, 6)),
    "defocused": cell(1003, blur=4.0, contrast=160),
    "empty": np.clip(np.random.default_rng(4).normal(90, 1.5, (40, 40)), 0, 255).astype(np.uint8),
    "saturated": np.where(np.hypot(*(np.mgrid[:40, :40] - 20)) < 9, 255, 90).astype(np.uint8),
}


@pytest.mark.parametrize("reason", ODD)
def test_a_poor_image_stands_out_with_its_reason(bulk, reason):
    scores, reasons = outlier_scores(features_of([*bulk, ODD[reason]]))
    assert scores[-1] >= 0.5
    assert reasons[-1] == reason
    assert (scores[:-1] >= 0.5).mean() <= 0.01


def test_what_half_of_a_set_shares_is_no_fault(bulk):
    cut = [cell(2000 + number, x=1 + number % 3) for number in range(200)]
    scores, _ = outlier_scores(features_of([*bulk, *cut]))
    assert (scores >= 0.5).mean() <= 0.01


def test_few_cells_say_nothing_of_each_other(bulk):
    features = features_of([*bulk[: LEAST_COMPARED_CELLS - 2], ODD["cut"]])
    assert (outlier_scores(features)[0] == 0).all()
    scores, reasons = outlier_scores(features_of([np.full((9, 9), 7, np.uint8)]))
    assert (scores.tolist(), reasons.tolist()) == ([1.0], ["empty"])


def test_blank_images_among_blank_images_are_still_blank():
    scores, reasons = outlier_scores(features_of([np.full((9, 9), level, np.uint8) for level in range(30)]))
    assert (scores == 1).all()
    assert set(reasons) == {"empty"}


def test_real_jurkat_cells_are_kept(real_data):
    paths = sorted((real_data / "jurkat").glob("*/*.png"))
    cells = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    scores, _ = outlier_scores(features_of(cells))
    assert 0 < (scores >= 0.5).mean() < 0.01
