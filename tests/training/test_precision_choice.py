"""The precision of training on a CPU is timed."""

import pytest
import torch

from fastcell.models.lightning_module import CellModule
from fastcell.training.precision_choice import PrecisionTiming, time_precisions


@pytest.mark.parametrize(
    ("safe", "fast", "choice", "said"),
    [
        (2.0, 1.0, "bf16-mixed", "precision bf16-mixed: 2.00 times as fast as 32-true, measured in steps of 32 cells"),
        (1.1, 1.0, "bf16-mixed", "other weights from the same seed"),
        (
            1.05,
            1.0,
            "32-true",
            "precision 32-true: bf16-mixed is only 1.05 times as fast here, measured in steps of 32 cells",
        ),
        (1.0, 10.0, "32-true", "bf16-mixed is 10.00 times as slow here"),
    ],
)
def test_the_faster_precision_is_chosen_and_said(safe, fast, choice, said):
    timing = PrecisionTiming(safe, fast, 32)
    assert timing.choice == choice
    assert said in timing.describe()
    assert "\n" not in timing.describe()
    assert "(--trainer.precision auto)" in timing.describe()


def test_timing_changes_neither_model_nor_random_state():
    model = CellModule("cellnet", classes=["a", "b"], preprocessing={"image_size": 16}, ema_decay=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    timing = time_precisions(model, 1)
    assert timing.num_cells == 2  # batch norm needs two
    assert timing.safe_s > 0
    assert timing.fast_s > 0
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert time_precisions(model, 1000).num_cells == 32


class WithoutBfloat16(torch.nn.Module):
    """A layer without a kernel for bfloat16."""

    def forward(self, images):
        if torch.is_autocast_enabled("cpu"):
            raise NotImplementedError("no kernel for BFloat16\nin this build")
        return images


def test_a_network_that_cannot_compute_in_bfloat16_trains_in_float32():
    model = CellModule("cellnet", classes=["a", "b"], preprocessing={"image_size": 16})
    model.network = torch.nn.Sequential(WithoutBfloat16(), model.network)
    timing = time_precisions(model, 4)
    assert timing.choice == "32-true"
    said = (
        "precision 32-true: the network cannot compute in bf16-mixed here (no kernel for BFloat16; --trainer.precision"
    )
    assert timing.describe() == f"{said} auto)"


class Broken(torch.nn.Module):
    """A layer that computes in no precision."""

    def forward(self, images):
        raise RuntimeError("broken")


def test_a_network_that_cannot_compute_at_all_is_not_timed():
    model = CellModule("cellnet", classes=["a", "b"], preprocessing={"image_size": 16})
    model.network = torch.nn.Sequential(Broken(), model.network)
    with pytest.raises(RuntimeError, match="broken"):
        time_precisions(model, 4)
