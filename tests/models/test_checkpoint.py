import os
import pickle

import pytest
import torch

from fastcell.errors import DataError
from fastcell.models.checkpoint import AtomicCheckpointIO, load_classifier, read_checkpoint
from fastcell.models.classifier import CellClassifier


def save(path, **changes) -> CellClassifier:
    torch.manual_seed(0)
    model = CellClassifier("gao", classes=["x", "y"], preprocessing={"image_size": 32, "fit": "contain"}, ema_decay=0.9)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(content)
    torch.save({**content, **changes}, path)
    return model


def test_a_checkpoint_brings_back_the_same_classifier(tmp_path):
    model = save(tmp_path / "a.ckpt").eval()
    loaded = load_classifier(tmp_path / "a.ckpt")
    images = torch.rand(3, 1, 32, 32)
    assert loaded.classes == ["x", "y"]
    assert loaded.preprocessing == {"image_size": 32, "fit": "contain"}
    assert not loaded.training
    assert torch.equal(loaded(images), model(images))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "went-off"), "w"))

    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save({"fastcell_format": 1, "bomb": Bomb()}, tmp_path / "worse.ckpt")
    for name in ("bad.ckpt", "worse.ckpt"):
        with pytest.raises(DataError, match="cannot be read"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "went-off").exists()


def test_truncated_checkpoint(tmp_path):
    save(tmp_path / "a.ckpt")
    data = (tmp_path / "a.ckpt").read_bytes()
    for share in (0, 10, len(data) // 2, len(data) - 100):
        (tmp_path / "cut.ckpt").write_bytes(data[:share])
        with pytest.raises(DataError, match=r"cut\.ckpt cannot be read"):
            load_classifier(tmp_path / "cut.ckpt")


def test_missing_and_foreign_checkpoints(tmp_path):
    with pytest.raises(DataError, match="checkpoint must be a file, got"):
        load_classifier(tmp_path / "none.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(DataError, match="was not written by fastcell fit"):
        load_classifier(tmp_path / "foreign.ckpt")
    save(tmp_path / "later.ckpt", fastcell_format=2)
    with pytest.raises(DataError, match="checkpoint format must be 1, got 2"):
        load_classifier(tmp_path / "later.ckpt")
    save(tmp_path / "other.ckpt", state_dict={"network.weight": torch.zeros(1)})
    with pytest.raises(DataError, match="does not fit this version"):
        load_classifier(tmp_path / "other.ckpt")
    save(tmp_path / "unknown.ckpt", hyper_parameters={"classes": ["x"], "speed": 1})
    with pytest.raises(DataError, match="does not fit this version"):
        load_classifier(tmp_path / "unknown.ckpt")


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, place)
    save = torch.save

    def no_room(content, file):
        save(content, file)
        os.truncate(file, 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, place)
    assert torch.load(place, weights_only=True) == {"step": 1}
    assert [path.name for path in place.parent.iterdir()] == ["last.ckpt"]
