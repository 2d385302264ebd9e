"""Flags and small batches of a live classifier, and a start without torch."""

import subprocess
import sys

import numpy as np
import pytest
from fixtures.live_servers import some_cells
from fixtures.unpacked_files import FixedNetwork, fixed_classifier

from fastcell.live.live_classifier import LiveClassifier, open_live
from fastcell.live.protocol import UNSURE_FLAG, AnswerStatus


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, TypeError, OSError])
def test_cells_that_fail_do_not_fail_the_others(error, caplog):
    class Picky(FixedNetwork):
        def run(self, images):
            if (images > 30).any():
                raise error("too bright")
            return super().run(images)

    classifier = fixed_classifier()
    classifier.backend = Picky()
    cells = some_cells(5)
    cells[2] = 1
    cells[2, 0, 0] = 255
    cells[2, 1:, 1:] = 0
    live = LiveClassifier(classifier)
    for _ in range(3):
        found = live.answer(cells, None)
    assert len(caplog.records) == 1  # not for each cell of a stream
    assert found.status.tolist() == [0, 0, AnswerStatus.UNUSABLE, 0, 0]
    assert found.classes[2] == -1
    expected = fixed_classifier().predict(cells)
    np.testing.assert_array_equal(np.delete(found.probabilities, 2, 0), np.delete(expected.probabilities, 2, 0))


def test_unsure_cells_keep_their_class():
    cells = some_cells(40)
    expected = fixed_classifier().predict(cells)
    found = LiveClassifier(fixed_classifier(), min_confidence=0.7).answer(cells, None)
    assert ((found.flags & UNSURE_FLAG > 0) == (expected.confidence < 0.7)).all()
    assert found.classes.tolist() == expected.class_numbers.tolist()


def test_a_run_answers_as_predict_does(trained_run):
    from fastcell.inference.open_classifier import load

    live, limits = open_live(str(trained_run), threads=1, min_confidence=0.5)
    live.prepare()
    cells = some_cells(70, shape=(40, 35))
    found, expected = live.answer(cells, None), load(trained_run, threads=1).predict(cells)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert limits.min_confidence == 0.5
    assert live.knows_training
    assert expected.unlike is not None
    np.testing.assert_allclose(found.unlike.scores, expected.unlike.scores, rtol=1e-4)
    assert (found.flags & 2 > 0).tolist() == (expected.unlike.scores > 1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), [("openvino", "int8"), ("onnxruntime", "int8")])
def test_prepared_backends_start_without_torch_and_answer_as_predict(prepared_run, backend, precision):
    code = f"""
import sys, numpy as np
from fastcell.live.live_classifier import open_live
import fastcell
live, _ = open_live({str(prepared_run)!r}, backend={backend!r}, precision={precision!r}, threads=1)
live.prepare()
cells = np.random.default_rng(0).integers(0, 256, (131, 40, 35), dtype=np.uint8)
found = live.answer(cells, None)
assert "torch" not in sys.modules
whole = fastcell.load({str(prepared_run)!r}, backend={backend!r}, precision={precision!r}, threads=1).predict(cells)
alone = np.concatenate([live.answer(cells[n : n + 1], None).probabilities for n in range(20)])
print(np.abs(found.probabilities - whole.probabilities).max(), np.abs(alone - whole.probabilities[:20]).max())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert max(map(float, done.stdout.split())) < 1e-5
