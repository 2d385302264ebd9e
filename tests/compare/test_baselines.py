"""Baselines are estimators of scikit-learn, find what is there to be found, and refuse what would not end."""

import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastcell.compare import baselines
from fastcell.compare.baselines import KNN_SUBSAMPLE, Backend, CellPCA, Knn, Svm, find_backend, make_baseline
from fastcell.errors import ArgumentError


def rings(num, seed):
    """Two classes of 64 values, the first two of which lie on circles of radius 1 and 2: no line parts them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    angle = rng.uniform(0, 2 * np.pi, num)
    cells = rng.normal(0, 0.01, (num, 64)).astype(np.float32)
    radius = 1 + labels + rng.normal(0, 0.1, num)
    cells[:, 0] += radius * np.cos(angle)
    cells[:, 1] += radius * np.sin(angle)
    return cells, labels


@parametrize_with_checks([CellPCA(), Knn(), Svm()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["knn", "svm"])
def test_rings_are_told_apart(method):
    estimator = make_baseline(method, components=2).fit(*rings(400, 0), *rings(200, 1))
    assert estimator.valid_accuracy_ > 0.97
    assert estimator.score(*rings(300, 2)) > 0.97
    assert list(estimator.pipeline_.named_steps) == ["pca", "classify"]


def test_they_can_be_cloned_and_cross_validated():
    cells, labels = rings(300, 0)
    names = np.array(["round", "oval"])[labels]
    estimator = clone(Svm(components=3, costs=(5.0,), gammas=(1.0,), backend="sklearn"))
    assert estimator.get_params()["components"] == 3
    assert cross_val_score(estimator, cells, names, cv=3).min() > 0.95
    assert set(estimator.fit(cells, names).predict(cells)) == {"round", "oval"}


def test_knn_votes_among_the_papers_subsample():
    cells, labels = rings(KNN_SUBSAMPLE + 500, 0)
    estimator = Knn(components=2, backend="sklearn").fit(cells, labels, cells[:100], labels[:100])
    assert estimator.pipeline_[-1].n_samples_fit_ == KNN_SUBSAMPLE
    chosen = estimator.references(len(cells))
    assert len(set(chosen.tolist())) == KNN_SUBSAMPLE
    again = Knn(components=2, backend="sklearn").fit(cells[chosen], labels[chosen], cells[:100], labels[:100])
    np.testing.assert_array_equal(again.predict(cells), estimator.predict(cells))


def test_the_parameters_are_picked_on_the_validation_cells():
    cells, labels = rings(200, 0)
    noisy = labels.copy()
    noisy[::7] = 1 - noisy[::7]  # one neighbour alone follows the wrong labels
    assert Knn(components=2).fit(cells, noisy, *rings(400, 1)).parameters_["n_neighbors"] > 1
    assert Knn(components=2).fit(cells, labels, cells, labels).parameters_["n_neighbors"] == 1


def test_without_validation_cells_a_fifth_is_put_aside_and_comes_back():
    cells, labels = rings(100, 0)
    estimator = Knn(components=2, backend="sklearn").fit(cells, labels)
    assert estimator.pipeline_[-1].n_samples_fit_ == 100
    assert 0 <= estimator.valid_accuracy_ * 20 == pytest.approx(round(estimator.valid_accuracy_ * 20))


def test_the_search_takes_few_cells_and_the_last_fit_all():
    cells, labels = rings(500, 0)
    sizes = []

    class Counting(find_backend("sklearn").svc):
        def fit(self, features, labels):
            sizes.append(len(features))
            return super().fit(features, labels)

    def backend(name):
        return Backend("sklearn", Counting, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "find_backend", backend)
        Svm(components=2, search_cells=200).fit(cells, labels, *rings(50, 1))
    assert sizes == [200] * 24 + [500]


def test_components_keep_their_own_variances_and_share_a_scale():
    rng = np.random.default_rng(0)
    cells = rng.normal(0, [30, 10, 1, 0.1], (5000, 4))
    scaled = CellPCA(3).fit_transform(cells)
    np.testing.assert_allclose(scaled.std(0), np.array([30, 10, 1]) / np.sqrt((900 + 100 + 1) / 3), rtol=0.05)
    few = CellPCA(3, max_cells=500).fit(cells)
    assert few.pca_.n_samples_ == 500
    np.testing.assert_allclose(np.abs(few.transform(cells)).std(0), np.abs(scaled).std(0), rtol=0.15)


def test_the_scaling_is_picked_on_the_validation_cells():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    small = rng.normal(0, 1, (400, 20))
    small[:, 0] = labels * 0.02 + rng.normal(0, 0.001, 400)  # told by a pixel of little variance
    loud = rng.normal(0, [0.5, *[30.0] * 19], (400, 20))
    loud[:, 1] = labels * 60 + rng.normal(0, 10, 400)
    loud[:, 2:] = rng.normal(0, 0.001, (400, 18))  # told by the loud one among quiet noise
    for cells, scaling in ((small, "pixels"), (loud, "common")):
        estimator = Knn(components=2 if scaling == "common" else 20).fit(
            cells[:200], labels[:200], cells[200:], labels[200:]
        )
        assert estimator.parameters_["scaling"] == scaling
        assert estimator.pipeline_["pca"].scaling == scaling
        assert estimator.valid_accuracy_ > 0.8
    pca = CellPCA(20, "pixels").fit(small)
    np.testing.assert_allclose(pca.pixel_std_, small.std(0))
    with pytest.raises(ArgumentError, match="scaling must be one of common, pixels"):
        CellPCA(2, "none").fit(small)


def test_fewer_cells_than_components():
    cells, labels = rings(10, 0)
    estimator = Svm(costs=(1.0,), gammas=(1.0,)).fit(cells, labels)
    assert estimator.pipeline_["pca"].pca_.n_components_ == 10
    assert estimator.predict(cells).shape == (10,)


def test_refusals():
    cells, labels = np.zeros((3001, 4), np.float32), np.arange(3001) % 2
    with pytest.raises(ArgumentError, match="components must be a number above 3,000 cells, got None for 3,001"):
        Svm(components=None).fit(cells, labels)
    with pytest.raises(ArgumentError, match="training cells of svm must be at most 3,000 with sklearn, got 3001. Use"):
        Svm(max_cells=3000, backend="sklearn").fit(cells, labels)
    with pytest.raises(ArgumentError, match="method must be one of knn, svm"):
        make_baseline("forest")
    with pytest.raises(ArgumentError, match="backend must be one of auto, cuml, sklearnex, sklearn"):
        find_backend("cuda")


def test_cuml_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr("fastcell.system.resources.has_gpu", lambda: False)
    with pytest.raises(ArgumentError, match="backend must be auto where there is no GPU"):
        find_backend("cuml")
    assert find_backend().name in ("sklearn", "sklearnex")


def test_an_extension_that_cannot_be_imported_says_why(monkeypatch, tmp_path):
    # As it is beside DALI: both register a type of one name.
    (tmp_path / "sklearnex").mkdir()
    (tmp_path / "sklearnex" / "__init__.py").write_text("raise ImportError('DLDeviceType is already registered!')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearnex"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("fastcell.system.resources.has_gpu", lambda: False)
    with pytest.raises(ArgumentError, match=r"cannot be imported \(DLDeviceType is already registered!\)"):
        find_backend("sklearnex")
    assert find_backend().name == "sklearn"


@pytest.mark.parametrize("method", ["knn", "svm"])
@pytest.mark.parametrize("name", ["sklearnex", "cuml"])
def test_backends_agree(method, name):
    if name == "cuml":
        from fastcell.system.resources import has_gpu

        if not has_gpu():
            pytest.skip("cuML needs a GPU")
        pytest.importorskip("cuml")
    else:
        pytest.importorskip("sklearnex", reason="scikit-learn-intelex is not installed")
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    cells = (rng.normal(0, 1, (600, 30)) + labels[:, None] * 0.4).astype(np.float32)
    parts = cells[:400], labels[:400], cells[400:500], labels[400:500]
    ours, theirs = (make_baseline(method, components=8, backend=each).fit(*parts) for each in ("sklearn", name))
    assert theirs.parameters_ == ours.parameters_
    assert (theirs.predict(cells[500:]) == ours.predict(cells[500:])).mean() >= 0.98
