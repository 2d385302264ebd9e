import subprocess
import sys

import numpy as np

from fastcell.inference.unlike.feature_names import IMAGE_FEATURES
from fastcell.inference.unlike.reasons import BY_NETWORK, NO_FEATURE, UnlikeScores, reasons


def code(name, above):
    return 2 * IMAGE_FEATURES.index(name) + above


def test_reasons_of_cells_above_the_limit():
    pairs = {
        (code("radius", True), code("noise_0", False)): "larger, smoother",
        (code("noise_0", True), code("noise_1", True)): "noisier",
        (code("noise_0", True), code("noise_diagonal_0", False)): "noise of another kind",
        (code("elongation", True), NO_FEATURE): "more elongated",
        (NO_FEATURE, NO_FEATURE): "unusual combination of features",
        (BY_NETWORK, NO_FEATURE): "unlike any class to the network",
        (BY_NETWORK, code("radius", False)): "unlike any class to the network, smaller",
    }
    off = np.array(list(pairs), np.int16)
    assert reasons(UnlikeScores(np.full(len(off), 1.5, np.float32), off)).tolist() == list(pairs.values())
    assert reasons(UnlikeScores(np.full(len(off), 1.0, np.float32), off)).tolist() == [""] * len(off)


def test_cells_without_a_score_have_no_reason():
    none = UnlikeScores.none(3)
    assert np.isnan(none.scores).all()
    assert reasons(none).tolist() == ["", "", ""]
    assert len(reasons(UnlikeScores.none(0))) == 0


def test_neither_numba_nor_torch_is_needed():
    code = "import sys, fastcell.inference.unlike.reasons; print([m for m in ('numba', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
