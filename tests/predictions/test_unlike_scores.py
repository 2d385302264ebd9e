import numpy as np
import pytest
import torch

from fastcell.inference.unlike.fit_training_cells import fit_training_cells
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.predictions.unlike_scores import BatchScorer


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    images = rng.normal(1, 0.1, (120, 1, 16, 16)).astype(np.float32)
    features = rng.normal(size=(120, 4)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(features)


@pytest.fixture(scope="module")
def known(cells):
    images, features = (column.numpy() for column in cells)
    return fit_training_cells(network_image_features(images), features, np.arange(len(images)) % 2)


def test_batches_are_scored_in_their_order(cells, known):
    expected = known.measure(network_image_features(cells[0].numpy()), cells[1].numpy())
    scorer = BatchScorer(known, threads=2)
    for first in range(0, 60, 20):
        scorer.add(*(column[first : first + 20] for column in cells))
    one = scorer.take()
    scorer.add(*(column[60:] for column in cells))
    two = scorer.take()
    np.testing.assert_array_equal(np.concatenate([one.scores, two.scores]), expected.scores)
    np.testing.assert_array_equal(np.concatenate([one.off, two.off]), expected.off)
    assert len(scorer.take().scores) == 0


@pytest.mark.gpu
def test_a_gpu_gives_the_scores_of_the_cpu(cells, known):
    expected = known.measure(network_image_features(cells[0].numpy()), cells[1].numpy())
    scorer = BatchScorer(known, threads=2)
    for first in range(0, 120, 20):
        scorer.add(*(column[first : first + 20].cuda() for column in cells))
    np.testing.assert_array_equal(scorer.take().scores, expected.scores)
