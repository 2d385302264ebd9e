"""Ranges of 8-bit networks: bright pixels are left out of them, and the network with the least error is kept."""

from __future__ import annotations

import numpy as np
import onnxruntime
import openvino
import pytest

from fastcell.inference.backends import nncf_quantization as module
from fastcell.inference.backends.network_files import NETWORK_FILE
from fastcell.inference.backends.nncf_quantization import CUT_SHARES, OUTLIER_SHARE, Quantiser


@pytest.fixture(scope="module")
def images():
    found = np.random.default_rng(0).uniform(0.5, 1.5, (64, 1, 32, 32)).astype(np.float32)
    found[::7, 0, 3, 4] = 20.0  # 10 of 65,536 pixels
    return found


def input_limit(model):
    """Upper end of the range of the input."""
    (quantised,) = {target.get_node() for target in model.inputs[0].get_node().output(0).get_target_inputs()}
    if quantised.get_type_name() == "Clamp":
        (quantised,) = {target.get_node() for target in quantised.output(0).get_target_inputs()}
    assert quantised.get_type_name() == "FakeQuantize"
    return float(np.max(quantised.input_value(2).get_node().data))


def test_bright_pixels_are_left_out_of_the_range(prepared_files, images):
    quantiser = Quantiser(prepared_files.folder / NETWORK_FILE, images)
    assert input_limit(quantiser.quantised()) == pytest.approx(20, rel=0.02)
    assert input_limit(quantiser.quantised(1e-3)) == pytest.approx(1.5, rel=0.02)


def test_dark_pixels_are_left_out_where_they_are_negative(prepared_files, images):
    """As with images of which the mean is subtracted; others keep the level 0, which pads convolutions."""
    for shift, low in ((0.0, 0.0), (-1.0, -0.5)):
        model = Quantiser(prepared_files.folder / NETWORK_FILE, images + np.float32(shift)).quantised(1e-3)
        (limited,) = {target.get_node() for target in model.inputs[0].get_node().output(0).get_target_inputs()}
        assert limited.get_attributes()["min"] == pytest.approx(low, abs=0.02)
        assert limited.get_attributes()["max"] == pytest.approx(1.5 + shift, abs=0.02)


def test_the_network_with_the_least_error_is_kept(prepared_files, images, monkeypatch):
    """The error is that of the logits beside those of ONNX Runtime in 32 bits."""
    monkeypatch.setattr(module, "CUT_SHARES", (0.0, 1e-3))
    path = prepared_files.folder / NETWORK_FILE
    expected = onnxruntime.InferenceSession(path).run(["logits"], {"images": images})[0]

    def error(model):
        request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.square(request(images)[0] - expected).mean()

    quantiser = Quantiser(path, images)
    errors = {cut: error(quantiser.quantised(cut)) for cut in (0.0, 1e-3)}
    narrower = error(quantiser.quantised(min(errors, key=errors.__getitem__), OUTLIER_SHARE))
    assert error(quantiser.best()) == pytest.approx(min(*errors.values(), narrower), rel=1e-3)
    assert CUT_SHARES[0] == 0
