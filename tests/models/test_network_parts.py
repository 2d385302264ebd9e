"""Parts of networks by name: the head, what is frozen, and what learns at another rate."""

import copy

import pytest
import torch
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.loading.batch import Batch
from fastcell.models.lightning_module import CellModule
from fastcell.models.network_parts import head_of, parse_freeze, rates_by_name
from fastcell.models.registry import NETWORKS, create_network

CLASSES = ["a", "b", "c"]


class Batches:
    """A loader of one batch, given several times."""

    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(12, 1, 16, 16, generator=generator)
        self.batch = Batch(images, torch.arange(12) % 3, torch.arange(12), torch.ones(12))

    def __len__(self):
        return 3

    def __iter__(self):
        return iter([self.batch] * 3)


def train(model, tmp_path):
    """State before and after three steps."""
    import pytorch_lightning as pl

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    before = copy.deepcopy(model.state_dict())
    trainer = pl.Trainer(max_steps=3, accelerator="cpu", enable_model_summary=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(model, Batches())
    return before, model.state_dict()


def changed(before, after):
    counts = "num_batches_tracked", "train_scores", "eval_scores"
    return {name for name in before if not torch.equal(before[name], after[name]) and not name.endswith(counts)}


def make(**arguments):
    torch.manual_seed(0)
    return CellModule(classes=CLASSES, preprocessing={"image_size": 16}, **arguments)


@pytest.mark.parametrize(("network", "head"), [("cellnet", "classifier.3"), ("cellnet-wide", "classifier.5")])
def test_the_head_is_the_last_layer(network, head):
    assert head_of(create_network(network, 3, 16), 3) == head


def test_every_network_has_a_head_of_one_output_per_class():
    for name in NETWORKS:
        network = create_network(name, 5, 32)
        layer = network.get_submodule(head_of(network, 5))
        assert layer.weight.shape[0] == 5
    assert head_of(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), 3) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, None),
        ("", None),
        ("features", ["features"]),
        ("features, classifier.1", ["features", "classifier.1"]),
        ("all-but-head", ["all-but-head"]),
        ("all but head", ["all-but-head"]),
        ("All_but_head", ["all-but-head"]),
    ],
)
def test_text_of_freeze(text, parts):
    assert parse_freeze(text) == parts


@pytest.mark.parametrize("input_norm", [False, True])
def test_all_but_the_head_is_frozen_with_its_statistics(tmp_path, input_norm):
    before, after = train(make(freeze=["all-but-head"], input_norm=input_norm), tmp_path)
    prefix = "network.1." if input_norm else "network."
    assert changed(before, after) == {f"{prefix}classifier.3.weight", f"{prefix}classifier.3.bias"}
    tracked = [name for name in after if name.endswith("num_batches_tracked")]
    assert tracked
    assert all(int(after[name]) == 0 for name in tracked)


def test_a_frozen_part_keeps_weights_and_statistics_and_the_rest_learns(tmp_path):
    before, after = train(make(freeze=["features.0", "features.3"]), tmp_path)
    learnt = changed(before, after)
    assert not any(name.startswith(("network.features.0.", "network.features.3.")) for name in learnt)
    expected = {name for name in before if name.startswith(("network.features", "network.classifier"))}
    expected = {name for name in expected if not name.startswith(("network.features.0.", "network.features.3."))}
    assert learnt == {name for name in expected if not name.endswith("num_batches_tracked")}


def test_frozen_layers_stay_in_evaluation_mode_through_every_change_of_mode():
    model = make(freeze=["features"])
    for _ in range(2):
        model.train()
        assert not model.network.features[3].training
        assert model.network.classifier.training
        model.eval()
        assert not model.network.classifier.training


def test_nothing_frozen_trains_everything(tmp_path):
    before, after = train(make(), tmp_path)
    assert {name for name, _ in make().network.named_parameters()} <= {
        name.removeprefix("network.") for name in changed(before, after)
    }


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["feature"], "freeze must be a part of the network (features, classifier, or a layer in them), got 'feature'"),
        (["features", "classifier"], "freeze must leave a part to train"),
        (["all-but-head", "features"], "freeze must be all-but-head alone"),
    ],
)
def test_freeze_is_refused(parts, message):
    with pytest.raises(ArgumentError) as caught:
        make(freeze=parts)
    assert message in str(caught.value)


def test_rates_by_the_longest_part():
    network = create_network("cellnet", 3, 16)
    rates = rates_by_name(network, 3, {"features": 1e-4, "features.4": 2e-4, "head": 5e-3}, 1e-3)
    assert rates["features.0.weight"] == 1e-4
    assert rates["features.4.bias"] == 2e-4
    assert rates["classifier.1.weight"] == 1e-3
    assert rates["classifier.3.weight"] == 5e-3


def test_each_part_learns_at_its_own_rate(tmp_path):
    """Adam's first step moves each weight by its rate, whatever the gradient."""
    import pytorch_lightning as pl

    model = make(part_learning_rates={"features": 1e-5, "head": 1e-2}, learning_rate=1e-3)
    before = copy.deepcopy(model.state_dict())
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", enable_model_summary=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(model, Batches())
    after = model.state_dict()
    for name, rate in (("features.0.weight", 1e-5), ("classifier.1.weight", 1e-3), ("classifier.3.weight", 1e-2)):
        moved = (after[f"network.{name}"] - before[f"network.{name}"]).abs().max()
        assert float(moved) == pytest.approx(rate, rel=0.02), name


@pytest.mark.parametrize("rates", [{"head": 0.0}, {"head": -1.0}, {"head": "fast"}])
def test_rates_are_refused(rates):
    with pytest.raises(ArgumentError, match="part_learning_rates of head must be above 0"):
        make(part_learning_rates=rates)


def test_an_unknown_part_with_a_rate_is_refused():
    with pytest.raises(ArgumentError, match="part_learning_rates must be a part of the network"):
        make(part_learning_rates={"tail": 1e-3})
