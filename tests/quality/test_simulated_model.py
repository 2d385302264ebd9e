"""The model in the package finds simulated faults, comes from the script beside it, and knows where it holds."""

import json
import lzma

import cv2
import numpy as np
import pytest

from fastcell.quality import simulated_model
from fastcell.quality.simulated_model import GOOD, MODEL_FEATURES, features_of, load_model, simulate_features
from fastcell.stats.proportions import clopper_pearson_interval

REAL_BAD = {"PBMC_07": "cut at two edges", "MCF7_08": "two cells", "MCF7_04": "debris", "MB231_03": "burst"}


@pytest.fixture(scope="module")
def series():
    """A series that no part of the model has seen."""
    return simulate_features(1_500, 505)


def test_every_kind_of_fault_is_found_where_95_percent_of_good_cells_are_kept(series):
    features, defects, _ = series
    model = load_model()
    scores = 1 - model.predict(features)[:, model.kinds.index(GOOD)]
    threshold = np.quantile(scores[defects == GOOD], 0.95)
    for kind in set(model.kinds) - {GOOD}:
        mine = scores[defects == kind]
        assert len(mine) > 100
        assert clopper_pearson_interval(int((mine >= threshold).sum()), len(mine))[0] > 0.95, kind


def test_the_likeliest_kind_is_the_right_one(series):
    features, defects, _ = series
    model = load_model()
    told = np.array(model.kinds)[model.predict(features).argmax(1)]
    for kind in set(model.kinds):
        assert (told[defects == kind] == kind).mean() > (0.9 if kind in ("empty", "ghost") else 0.95), kind


def test_probabilities_are_those_of_a_softmax(series):
    shares = load_model().predict(series[0][:50])
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(1), 1)


def test_simulated_cells_look_like_themselves_and_noise_does_not(series):
    features, defects, collections = series
    model = load_model()
    for name in np.unique(collections):
        assert model.looks_alike(features[collections == name])[0]
    good = model.distance(features[defects == GOOD])
    assert (good > model.look_limit).mean() < 0.03
    noise = features_of(list(np.random.default_rng(0).integers(0, 256, (40, 40, 60), np.uint8)))
    alike, distance = model.looks_alike(noise)
    assert not alike
    assert distance > 2 * model.look_limit


def test_frame_size_and_level_are_not_looked_at():
    assert not {"height", "width", "mean_intensity", "background"} & set(MODEL_FEATURES)


def test_a_model_of_other_features_is_refused():
    values = json.loads(lzma.decompress(simulated_model._PATH.read_bytes()))
    with pytest.raises(ValueError, match="other features"):
        simulated_model.from_json({**values, "features": ["focus"]})


@pytest.mark.slow
def test_the_script_makes_the_file():
    stored, made = json.loads(lzma.decompress(simulated_model._PATH.read_bytes())), simulated_model.fit()
    assert {name: stored[name] for name in ("generator", "series", "features", "kinds")} == {
        name: made[name] for name in ("generator", "series", "features", "kinds")
    }
    for name in ("mean", "scale", "coefficients", "intercepts", "centers", "precisions", "look_limit"):
        np.testing.assert_allclose(made[name], stored[name], rtol=0.02, atol=0.01, err_msg=name)
    assert made["held_out"].keys() == stored["held_out"].keys()
    for kind, values in made["held_out"].items():
        assert values["num"] == stored["held_out"][kind]["num"]


def test_real_atom_cells(real_data):
    paths = sorted((real_data / "atom-samples").glob("*.jpg"))
    features = features_of([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])
    model = load_model()
    assert model.looks_alike(features)[0]
    scores = 1 - model.predict(features)[:, model.kinds.index(GOOD)]
    assert {path.stem for path, score in zip(paths, scores, strict=True) if score >= 0.5} == set(REAL_BAD)


def test_real_cells_of_other_instruments_look_unlike(real_data):
    paths = sorted((real_data / "jurkat").glob("*/*.png"))[::40]
    features = features_of([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])
    assert not load_model().looks_alike(features)[0]
