"""Which students a budget may choose, what images they get, and how long they train."""

from fastcell.cli.distill_from_python import LENGTH, _candidates, _images_of, _length
from fastcell.loading.preprocessing import Preprocessing
from fastcell.training.distillation.candidates import CANDIDATES
from fastcell.training.recipe import read_recipe


def test_settings_limit_the_candidates():
    assert _candidates({}) == list(CANDIDATES)
    assert _candidates({"model.network": "gao"}) == [("gao", 24), ("gao", 32), ("gao", 48)]
    assert _candidates({"data.image_size": "40"}) == [
        (name, 40) for name in ("student", "student-small", "student-wide")
    ]
    assert _candidates({"model.network": "student", "data.image_size": 24}) == [("student", 24)]


def test_smaller_images_show_the_same_field():
    images = _images_of(Preprocessing(64, "scale", "standardize", antialias=True, scale_um_per_px=0.5), 32)
    assert images["scale_um_per_px"] == 1.0
    assert (images["image_size"], images["fit"], images["normalization"]) == (32, "scale", "standardize")
    assert images["antialias"] is True
    assert _images_of(Preprocessing(64), 48)["scale_um_per_px"] is None


def test_students_train_longer_than_the_preset_unless_told():
    epochs = read_recipe("fast").max_epochs
    assert _length("fast", {}) == {"trainer.max_epochs": LENGTH * epochs}
    assert _length("paper", {}) == {"trainer.max_steps": LENGTH * 3000}
    assert _length("fast", {"trainer.max_steps": 5}) == {}
