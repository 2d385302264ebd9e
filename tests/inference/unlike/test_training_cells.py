import numpy as np
import pytest
import torch

from fastcell.errors import DataError
from fastcell.inference.unlike.distances import FAR
from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, NUM_SHAPE_FEATURES
from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY, TrainingCells

WIDTH = len(IMAGE_FEATURES)


def random_cells(num, seed):
    rng = np.random.default_rng(seed)
    image, network = rng.normal(size=(num, WIDTH)), rng.normal(size=(num, 5)) + rng.integers(0, 2, num)[:, None] * 4
    return image.astype(np.float32), network.astype(np.float32)


@pytest.fixture(scope="module")
def known():
    image, network = random_cells(500, 0)
    return fit_training_cells(image, network, (network[:, 0] > 2).astype(np.int64))


def saved(known):
    """Statistics as a checkpoint holds them."""
    values = known.to_checkpoint()
    return {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def test_scores_are_the_largest_distance_over_its_limit(known):
    image, network = random_cells(50, 1)
    image[10:20] *= 3
    network[20:30] += 20
    scaled = (image - known.center) / known.scale @ known.image_whitening.T
    shape = np.linalg.norm(scaled[:, :NUM_SHAPE_FEATURES], axis=1) / known.limits[0]
    noise = np.linalg.norm(scaled[:, NUM_SHAPE_FEATURES:], axis=1) / known.limits[1]
    white = network @ known.network_whitening.T
    nearest = np.min([np.linalg.norm(white - mean, axis=1) for mean in known.means], axis=0) / known.limits[2]
    scores, why = known.score(image, network)
    np.testing.assert_allclose(scores, np.max([shape, noise, nearest], axis=0), rtol=1e-5)
    assert all(bool(text) == bool(score > 1) for text, score in zip(why, scores, strict=True))
    assert all(text.startswith("unlike any class to the network") for text in np.array(why)[20:30])


def test_the_score_of_a_cell_does_not_depend_on_the_others(known):
    image, network = random_cells(64, 2)
    together = known.measure(image, network)
    alone = [known.measure(image[row : row + 1], network[row : row + 1]) for row in range(64)]
    np.testing.assert_array_equal(np.concatenate([one.scores for one in alone]), together.scores)
    np.testing.assert_array_equal(np.concatenate([one.off for one in alone]), together.off)
    np.testing.assert_array_equal(known.measure(image[::2], network[::2]).scores, together.scores[::2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_values_that_are_not_finite_are_far(known, value):
    image, network = random_cells(4, 3)
    image[1, 3], network[2, 1] = value, value
    found = known.measure(image, network)
    assert found.scores[1] == found.scores[2] == np.float32(FAR)
    assert (found.scores[[0, 3]] < 2).all()


def test_statistics_survive_a_checkpoint(known, tmp_path):
    torch.save({CHECKPOINT_KEY: saved(known)}, tmp_path / "one.ckpt")
    read = TrainingCells.from_checkpoint(torch.load(tmp_path / "one.ckpt", weights_only=True))
    image, network = random_cells(30, 4)
    np.testing.assert_array_equal(read.measure(image, network).scores, known.measure(image, network).scores)
    assert (read.num_training, read.num_held_out) == (500, 0)
    assert TrainingCells.from_checkpoint({"state_dict": {}}) is None


def test_another_network_is_refused(known):
    image, network = random_cells(3, 0)
    with pytest.raises(DataError, match=r"of this network \(4 activations\), got 5"):
        known.measure(image, network[:, :4])


@pytest.mark.parametrize(
    "change",
    [
        {"image_features": ["background"]},
        {"center": torch.zeros(3)},
        {"scale": torch.zeros(WIDTH)},
        {"limits": torch.tensor([1.0, 1.0, float("nan")])},
        {"limits": torch.tensor([1.0, -1.0, 1.0])},
        {"means": torch.zeros(0, 5)},
        {"means": torch.zeros(2, 4)},
        {"network_whitening": torch.zeros(5, 4)},
        {"network_whitening": torch.tensor(1.0)},
        {"low": torch.zeros(WIDTH)},
        {"high": torch.zeros(WIDTH)},
        {"image_whitening": "text"},
        {"num_training": -1},
        {"num_training": True},
        {"num_held_out": 1.5},
    ],
)
def test_damaged_statistics_are_refused(known, change):
    with pytest.raises(DataError, match="statistics of training cells in the checkpoint are damaged"):
        TrainingCells.from_checkpoint({CHECKPOINT_KEY: {**saved(known), **change}})
    content = saved(known)
    del content[next(iter(change))]
    with pytest.raises(DataError, match="damaged"):
        TrainingCells.from_checkpoint({CHECKPOINT_KEY: content})


def test_statistics_of_another_kind_are_refused():
    for value in (3, [1, 2], "text", {}):
        with pytest.raises(DataError, match="damaged"):
            TrainingCells.from_checkpoint({CHECKPOINT_KEY: value})
