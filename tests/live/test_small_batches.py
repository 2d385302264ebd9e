"""Division of a micro-batch into batches of a few sizes."""

import itertools

import numpy as np
import pytest
from fixtures.unpacked_files import FixedNetwork

from fastcell.inference.backends.fixed_batches import batch_size, run_in_batches
from fastcell.live.small_batches import SmallBatches, fastest_batches


class Recorder(FixedNetwork):
    """Fixed network in padded batches, which notes their sizes."""

    def __init__(self):
        self.sizes = []

    def run(self, images, batch=None):
        def noted(some):
            self.sizes.append(len(some))
            return FixedNetwork.run(self, some)

        return run_in_batches(noted, images, batch or 128, 1)


@pytest.mark.parametrize("num", [0, 1, 2, 5, 9, 127, 128, 129, 300])
def test_each_image_has_its_answer_in_the_planned_batches(num):
    recorder = Recorder()
    backend = SmallBatches(recorder, 32)
    assert batch_size(32) == 128
    assert set(recorder.sizes) == {1, 8, 32, 128}
    backend.plans = [[8] * (rest // 8) + [1] * (rest % 8) for rest in range(128)]
    recorder.sizes.clear()
    images = np.random.default_rng(0).random((num, 1, 32, 32), dtype=np.float32)
    logits, features = backend.run(images)
    expected = FixedNetwork().run(images)
    np.testing.assert_array_equal(logits, expected[0])
    np.testing.assert_array_equal(features, expected[1])
    rest = num % 128
    assert recorder.sizes == [128] * max(num // 128, num == 0) + [8] * (rest // 8) + [1] * (rest % 8)


@pytest.mark.parametrize(
    "seconds",
    [
        {1: 1.0, 4: 2.0, 16: 5.0},
        {1: 1.0, 4: 4.5, 16: 20.0},
        {1: 3.0, 4: 3.1, 16: 3.2},
        {1: 1.0, 2: 1.9, 5: 3.0, 16: 16.5},
    ],
)
def test_no_other_batches_are_faster(seconds):
    plans = fastest_batches(seconds, 15)
    assert plans[0] == []
    for num in range(1, 16):
        assert sum(plans[num]) >= num
        assert sum(plans[num][:-1]) < num  # no batch of padding alone
        found = sum(seconds[size] for size in plans[num])
        others = itertools.product(*(range(num // size + 2) for size in seconds))
        enough = [counts for counts in others if sum(n * s for n, s in zip(counts, seconds, strict=True)) >= num]
        best = min(sum(n * t for n, t in zip(counts, seconds.values(), strict=True)) for counts in enough)
        assert found == pytest.approx(best)
