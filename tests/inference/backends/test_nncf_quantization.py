"""Ranges of 8-bit networks: bright pixels are left out of them, and the network with the least error is kept."""

import numpy as np
import openvino
import pytest
from openvino import opset8

from fastcell.inference.backends import nncf_quantization as module
from fastcell.inference.backends.nncf_quantization import OUTLIER_SHARE, Quantiser


@pytest.fixture(scope="module")
def images():
    found = np.random.default_rng(0).uniform(0.5, 1.5, (64, 1, 16, 16)).astype(np.float32)
    found[::8, 0, 3, 4] = 20.0  # 8 of 16,384 pixels
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """File of a network of one convolution, ReLU, the mean of each map and a fully connected layer."""
    rng = np.random.default_rng(1)
    pixels = opset8.parameter([-1, 1, 16, 16], np.float32)
    kernel = opset8.constant(rng.normal(0, 0.3, (8, 1, 3, 3)).astype(np.float32))
    maps = opset8.relu(opset8.convolution(pixels, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    last = opset8.constant(rng.normal(0, 1, (8, 4)).astype(np.float32))
    logits = opset8.matmul(opset8.reduce_mean(maps, opset8.constant([2, 3])), last, False, False)
    path = tmp_path_factory.mktemp("network") / "network.xml"
    openvino.save_model(openvino.Model([logits], [pixels]), str(path), compress_to_fp16=False)
    return path


def reader_of_input(model):
    (found,) = {target.get_node() for target in model.inputs[0].get_node().output(0).get_target_inputs()}
    return found


def logits_of(model, images):
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]


def test_bright_pixels_are_left_out_of_the_range(network, images):
    quantiser = Quantiser(network, images)
    model = quantiser.quantised()
    whole = reader_of_input(model)
    assert whole.get_type_name() == "FakeQuantize"
    assert np.max(whole.input_value(2).get_node().data) == pytest.approx(20, rel=0.02)
    model = quantiser.quantised(1e-3)  # which owns its nodes
    limited = reader_of_input(model)
    assert limited.get_type_name() == "Clamp"
    (range_,) = {target.get_node() for target in limited.output(0).get_target_inputs()}
    assert np.max(range_.input_value(2).get_node().data) == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize(("shift", "low"), [(0.0, 0.0), (-1.0, -0.5)])
def test_dark_pixels_are_left_out_where_they_are_negative(network, images, shift, low):
    """As with images of which the mean is subtracted; others keep the level 0, which pads convolutions."""
    model = Quantiser(network, images + np.float32(shift)).quantised(1e-3)
    limited = reader_of_input(model).get_attributes()
    assert (limited["min"], limited["max"]) == pytest.approx((low, 1.5 + shift), abs=0.02)


def test_the_network_with_the_least_error_is_kept(network, images, monkeypatch):
    monkeypatch.setattr(module, "CUT_SHARES", (0.0, 1e-3))
    expected = logits_of(openvino.Core().read_model(network), images)

    def error(model):
        return np.square(logits_of(model, images) - expected).mean()

    quantiser = Quantiser(network, images)
    errors = {cut: error(quantiser.quantised(cut)) for cut in (0.0, 1e-3)}
    narrower = error(quantiser.quantised(min(errors, key=errors.__getitem__), OUTLIER_SHARE))
    assert error(quantiser.best()) == pytest.approx(min(*errors.values(), narrower), rel=1e-3)
