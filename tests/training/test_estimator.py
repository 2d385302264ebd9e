"""The estimator: scikit-learn's own checks, and what they do not know of images."""

import io
import pickle
import re

import cv2
import joblib
import numpy as np
import pytest
import torch
from fixtures.spotted_cells import cells
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import fastcell
from fastcell.cli.pack import main as pack
from fastcell.errors import ArgumentError, DataError
from fastcell.training.estimator import CellClassifier

QUICK = {"image_size": 16, "epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "threads": 1, "random_state": 0}
# These do not hold for a network that is trained on batches.
FAILING = {
    "check_sample_weight_equivalence_on_dense_data": "a repeated cell is drawn, and changed, twice; a weight is not",
}


@pytest.fixture(scope="module")
def fitted():
    return CellClassifier(**QUICK).fit(*cells())


def test_the_public_name():
    assert fastcell.CellClassifier is CellClassifier


def test_it_learns_and_names_its_classes(fitted):
    images, names = cells(seed=1)
    assert fitted.classes_.tolist() == ["plain", "spot"]
    assert fitted.score(images, names) == 1.0
    chances = fitted.predict_proba(images)
    assert chances.shape == (40, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert np.array_equal(fitted.predict(images), fitted.classes_[chances.argmax(axis=1)])


def test_ragged_cells_and_what_stands_beside_them():
    images, names = cells(ragged=True)
    model = CellClassifier(**QUICK, square="contain").fit(images, names)
    others, truth = cells(seed=1, ragged=True)
    assert model.score(others, truth) >= 0.95
    alone = np.concatenate([model.predict_proba([image]) for image in others])
    assert np.array_equal(alone, model.predict_proba(others))


def test_rows_are_images_laid_flat(fitted):
    images, names = cells()
    rows = images.reshape(40, -1)
    model = CellClassifier(**QUICK, image_shape=(16, 20)).fit(rows, names)
    assert model.n_features_in_ == 320
    assert np.array_equal(model.predict_proba(rows), fitted.predict_proba(images))
    with pytest.raises(ArgumentError, match=r"image_shape must be \(H, W\) with H x W = 320"):
        CellClassifier(image_shape=(16, 16)).fit(rows, names)
    assert [image.shape for image in CellClassifier()._unflattened(np.zeros((1, 9)))] == [(3, 3)]
    assert [image.shape for image in CellClassifier()._unflattened(np.zeros((1, 8)))] == [(1, 8)]


def test_numbers_of_another_kind_are_seen_through_a_window():
    images, names = cells()
    model = CellClassifier(**QUICK).fit(images * 10.0 - 3000, names)
    assert model.window_ == (images.min() * 10.0 - 3000, images.max() * 10.0 - 3000)
    assert model.score(images * 10.0 - 3000, names) == 1
    assert model.module_.preprocessing["depth"] == 16
    with pytest.raises(ArgumentError, match="window must be .low, high. with low below high"):
        CellClassifier(window=(3, 3)).fit(images / 2, names)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_s_state_alone(fitted):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = clone(fitted).fit(*cells())
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in fitted.module_.state_dict().items():
        assert torch.equal(value, again.module_.state_dict()[name])
    other = clone(fitted).set_params(random_state=1).fit(*cells())
    assert not np.array_equal(other.predict_proba(cells()[0]), fitted.predict_proba(cells()[0]))


def test_damaged_weights_in_a_pickle_are_refused(fitted):
    data = bytearray(pickle.dumps(fitted))
    weights = next(iter(fitted.module_.state_dict().values())).cpu().numpy().tobytes()
    data[data.index(weights) + len(weights) // 2] ^= 64
    with pytest.raises(DataError, match="the pickled classifier is damaged"):
        pickle.loads(bytes(data))


def test_pickles_hold_arrays_alone_and_come_back_whole(fitted):
    file = io.BytesIO()
    joblib.dump(fitted, file)
    assert b"pytorch_lightning" not in file.getvalue()
    assert b"fastcell.sklearn" in file.getvalue()
    assert b"fastcell.training" not in file.getvalue()
    file.seek(0)
    back = joblib.load(file)
    images, _ = cells(seed=2)
    assert np.array_equal(back.predict_proba(images), fitted.predict_proba(images))
    assert back.get_params() == fitted.get_params()


def test_it_is_cross_validated_by_group():
    images, names = cells(48)
    groups = np.arange(48) // 2 % 4
    scores = cross_val_score(CellClassifier(**QUICK), images, names, groups=groups, cv=GroupKFold(2))
    assert scores.tolist() == [1, 1]
    listed, names = cells(48, ragged=True)
    assert len(cross_val_score(CellClassifier(**{**QUICK, "epochs": 1}), listed, names, cv=2)) == 2


def test_weights_of_cells_and_classes_decide():
    """Noise has no class: what a network says of other noise is what its weights make likelier."""

    def noise(count, seed):
        return np.random.default_rng(seed).integers(60, 200, (count, 16, 16)).astype(np.uint8)

    names = np.array(["a"] * 20 + ["b"] * 20)
    quick = {**QUICK, "augment": False, "epochs": 20, "batch_size": 40, "random_state": 3}
    by_cell = CellClassifier(**quick).fit(noise(40, 3), names, sample_weight=np.where(names == "b", 9, 1))
    by_class = CellClassifier(**quick, class_weight={"a": 9, "b": 1}).fit(noise(40, 3), names)
    shares = [np.mean(model.predict(noise(200, 99)) == "b") for model in (by_cell, by_class)]
    assert shares[0] > 0.3 + shares[1]  # 1.0 and 0.01; by seed 0.4 to 1.0 apart


def test_folders_and_packed_data(tmp_path):
    images, names = cells(80, ragged=True)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        (tmp_path / "source" / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "source" / name / f"{number:03d}.png"), image)
    assert pack([str(tmp_path / "source"), str(tmp_path / "cells")]) == 0
    model = CellClassifier(**QUICK).fit(tmp_path / "cells")
    assert model.classes_.tolist() == ["plain", "spot"]
    assert model.score(str(tmp_path / "cells")) >= 0.9
    assert len(model.predict(tmp_path / "cells")) == 80
    assert set(model.predict(tmp_path / "source" / "spot")) == {"spot"}
    from_folder = CellClassifier(**QUICK).fit(tmp_path / "source")
    assert from_folder.score(tmp_path / "source") >= 0.95
    paths = sorted((tmp_path / "source" / "plain").iterdir())
    assert set(from_folder.predict(paths)) == {"plain"}
    with pytest.raises(ArgumentError, match="y must be None where X is a folder"):
        CellClassifier().fit(tmp_path / "source", names)
    with pytest.raises(ArgumentError, match="a folder whose images have classes"):
        CellClassifier().fit(tmp_path / "source" / "spot")


def test_what_it_refuses(fitted, tmp_path):
    images, names = cells()
    with pytest.raises(ArgumentError, match="y must be of at least two classes, got '1 class .spot.'"):
        CellClassifier().fit(images[::2], names[::2])
    with pytest.raises(ArgumentError, match="preset must be one of demo, fast, paper, thorough, got 'quick'"):
        CellClassifier(preset="quick").fit(images, names)
    with pytest.raises(ArgumentError, match="epochs must be a positive whole number, got 0"):
        CellClassifier(epochs=0).fit(images, names)
    with pytest.raises(ArgumentError, match="network must be a known name"):
        CellClassifier(network="celnet").fit(images, names)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        CellClassifier().fit(images, names[:-1])
    with pytest.raises(ArgumentError, match="grey levels 0..255"):
        fitted.predict(images * 3.7)
    with pytest.raises(ArgumentError, match="X must be a folder"):
        fitted.predict(str(tmp_path / "gone"))
    with pytest.raises(DataError, match="cannot be read"):
        fitted.predict([str(tmp_path / "gone.png")])


@pytest.mark.slow
def test_scikit_learn_s_own_checks():
    model = CellClassifier(image_size=8, epochs=1, batch_size=64, augment=False, threads=1)
    results = check_estimator(model, on_skip=None, on_fail=None, expected_failed_checks=FAILING)
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(FAILING)
    assert [result["check_name"] for result in results if result["status"] == "failed"] == []
    assert sum(result["status"] == "passed" for result in results) > 45


def test_rare_classes_are_repeated_unless_weights_are_given(monkeypatch):
    from fastcell.training import on_arrays

    asked = []

    def stop(recipe, *rest):
        asked.append(recipe.balance)
        raise InterruptedError

    monkeypatch.setattr(on_arrays, "train_on_cells", stop)
    images, y = np.zeros((30, 8, 8), np.uint8), np.array(["a", "b"] * 15)
    for weight in (None, "balanced", {"a": 2.0, "b": 1.0}):
        with pytest.raises(InterruptedError):
            CellClassifier(class_weight=weight).fit(images, y)
    assert asked == ["auto", "none", "none"]


def test_no_images_give_no_answers_and_cannot_be_fitted(fitted):
    images, names = cells()
    for nothing in ([], images[:0], images[:0, None], torch.zeros(0, 4, 4), ()):
        assert fitted.predict_proba(nothing).shape == (0, 2)
        assert fitted.predict(nothing).shape == (0,)
        assert fitted.predict(nothing).dtype == fitted.classes_.dtype
    for nothing in (images[:0], []):
        with pytest.raises(
            ArgumentError, match="X must be at least 1 image, got 0. Give images of at least two classes"
        ):
            CellClassifier(**QUICK).fit(nothing, names[:0])


def test_tensors_and_an_axis_of_one_channel(fitted):
    images, names = cells(seed=1)
    expected = fitted.predict_proba(images)
    for same in (images[:, None], images[..., None], torch.from_numpy(images), torch.from_numpy(images)[:, None]):
        np.testing.assert_array_equal(fitted.predict_proba(same), expected)
    np.testing.assert_array_equal(fitted.predict_proba([torch.from_numpy(image)[None] for image in images]), expected)
    quick = {**QUICK, "epochs": 1}
    numbers = torch.from_numpy((names == "spot").astype(np.int64))
    one = CellClassifier(**quick).fit(torch.from_numpy(images)[:, None], numbers, sample_weight=torch.ones(40))
    other = CellClassifier(**quick).fit(images, numbers.numpy())
    np.testing.assert_array_equal(one.predict_proba(images), other.predict_proba(images))


def test_negative_weights_are_refused():
    images, names = cells()
    with pytest.raises(ArgumentError, match="sample_weight must be 0 or more for each cell, got -1"):
        CellClassifier(**QUICK).fit(images, names, sample_weight=[-1.0] + [1.0] * 39)
    with pytest.raises(ValueError, match="at least one non-zero"):
        CellClassifier(**QUICK).fit(images, names, sample_weight=[0.0] * 40)


def test_progress_is_shown_on_request(capsys):
    images, names = cells()
    CellClassifier(**{**QUICK, "epochs": 2}).fit(images, names)
    assert capsys.readouterr().err == ""
    CellClassifier(**{**QUICK, "epochs": 2}, verbose=True).fit(images, names)
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search(r"10 steps in [\d.]+ s; training cells at the end: loss [\d.]+, accuracy [\d.]+\n", told.err)


def test_saved_and_loaded(fitted, tmp_path):
    images, _ = cells(seed=1)
    fitted.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["estimator.json", "last.ckpt"]
    back = CellClassifier.load(tmp_path / "model")
    assert back.get_params() == fitted.get_params()
    np.testing.assert_array_equal(back.predict_proba(images), fitted.predict_proba(images))
    opened = fastcell.load(tmp_path / "model", threads=1)
    assert opened.classes == ["plain", "spot"]
    np.testing.assert_allclose(opened.predict_proba(images), fitted.predict_proba(images), atol=1e-6)
    with pytest.raises(ArgumentError, match="new or empty"):
        fitted.save(tmp_path / "model")
    with pytest.raises(NotFittedError):
        CellClassifier().save(tmp_path / "other")
    (tmp_path / "model" / "estimator.json").write_text("{}")
    with pytest.raises(DataError, match=r"must be a folder that CellClassifier.save wrote.*from_run"):
        CellClassifier.load(tmp_path / "model")


def test_saved_with_a_window_and_classes_that_are_numbers(tmp_path):
    images, names = cells()
    settings = {**QUICK, "epochs": 1, "class_weight": {3: 2.0, 7: 1.0}, "window": (0.0, 1.0)}
    model = CellClassifier(**settings).fit(images / 255, np.where(names == "spot", 3, 7))
    model.save(tmp_path / "model")
    back = CellClassifier.load(tmp_path / "model")
    assert back.get_params() == model.get_params()
    assert back.classes_.tolist() == [3, 7]
    assert back.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(back.predict_proba(images / 255), model.predict_proba(images / 255))
    assert back.fit(images / 255, np.where(names == "spot", 3, 7)).classes_.tolist() == [3, 7]


def test_a_run_as_an_estimator(trained_run, trained_data):
    model = CellClassifier.from_run(trained_run)
    assert model.classes_.tolist() == ["MB231", "MCF7", "PBMC", "THP1"]
    assert (model.image_size, model.square) == (32, "stretch")
    images = [np.full((20, 30), number, np.uint8) for number in (10, 90)]
    expected = fastcell.load(trained_run).predict_proba(images)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-6)
    assert model.score(trained_data) == pytest.approx(fastcell.load(trained_run).scores["accuracy"]["value"], abs=0.01)
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(back.predict_proba(images), model.predict_proba(images))
    with pytest.raises(ArgumentError, match="a classifier of a run is saved already"):
        model.save("anywhere")
