import errno
import os
import pickle
import random
import resource
import zipfile

import pytest
import torch

from fastcell.errors import DataError
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import AtomicCheckpointIO, load_classifier, read_checkpoint, save_checkpoint


def save(path, **changes):
    torch.manual_seed(0)
    model = CellModule("gao", classes=["x", "y"], preprocessing={"image_size": 32, "fit": "contain"}, ema_decay=0.9)
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
    save(tmp_path / "later.ckpt", fastcell_format=4, fastcell_version="7.1")
    with pytest.raises(
        DataError, match=r"later\.ckpt: checkpoint format must be 1 to 3, got 4. Install fastcell 7.1 or"
    ):
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": None}, "has no state_dict"),
        ({"hyper_parameters": 5}, "has no hyper_parameters"),
        ({"fastcell_format": [1]}, "checkpoint format must be 1 to 3, got"),
        ({"hyper_parameters": {"classes": ["x", "y"], 5: 1}}, "does not fit this version"),
        ({"hyper_parameters": {"classes": "xy"}}, "its classes are not a list of names"),
        ({"hyper_parameters": {"classes": ["x", "x"]}}, "it names a class twice"),
        ({"hyper_parameters": {"classes": ["x"], "network": ["gao"]}}, "does not fit this version"),
        ({"hyper_parameters": {"classes": ["x"], "betas": 1}}, "does not fit this version"),
        ({"hyper_parameters": {"classes": ["x"], "preprocessing": {"image_size": 10**9}}}, "image_size must be"),
        ({"hyper_parameters": {"classes": ["x"], "preprocessing": {"window": [1]}}}, "does not fit this version"),
        ({"hyper_parameters": {"classes": ["x"], "preprocessing": {"scale_um_per_px": "a"}}}, "does not fit"),
        ({"state_dict": {}}, r"weight 'network.features.0.weight' is missing"),
        ({"state_dict": {1: 2}}, "does not fit this version"),
    ],
)
def test_content_of_the_wrong_kind(tmp_path, changes, message):
    save(tmp_path / "a.ckpt", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_classifier(tmp_path / "a.ckpt")
    assert str(tmp_path / "a.ckpt") in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: w[:-1], r"is \(5, 1, 7, 7\) of torch.float32, not \(6, 1, 7, 7\)"),
        (lambda w: torch.zeros(1).expand(1 << 40), r"is \(1099511627776,\) of torch.float32"),
        (lambda w: w.to(torch.complex64), r"is \(6, 1, 7, 7\) of torch.complex64"),
        (lambda w: w.to("meta"), "is no tensor"),
        (lambda w: w.to_sparse(), "is no tensor"),
        (lambda w: "text", "is no tensor"),
    ],
)
def test_weights_of_the_wrong_kind(tmp_path, make, message):
    weights = save(tmp_path / "a.ckpt").state_dict()
    weights["network.features.0.weight"] = make(weights["network.features.0.weight"])
    save(tmp_path / "a.ckpt", state_dict=weights)
    with pytest.raises(DataError, match=f"weight 'network.features.0.weight' {message}"):
        load_classifier(tmp_path / "a.ckpt")


def test_a_network_that_the_weights_do_not_fit_is_never_built(tmp_path):
    model = save(tmp_path / "a.ckpt")
    save(tmp_path / "a.ckpt", hyper_parameters={**model.hparams, "classes": [f"{i}" for i in range(1_000_000)]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"is \(2, 150\) of torch.float32, not \(1000000, 150\)"):
        load_classifier(tmp_path / "a.ckpt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB; its confusion matrix: 8 TB


def rewritten(path, compression=zipfile.ZIP_STORED, **parts):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(content)).partition("/")[0]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {**content, **{f"{root}/{name}": data for name, data in parts.items()}}.items():
            archive.writestr(name, data)


def test_archives_that_swell_and_claims_beyond_the_file(tmp_path):
    path = tmp_path / "a.ckpt"
    save(path)
    rewritten(path)
    assert load_classifier(path).classes == ["x", "y"]  # rewritten it is still one
    rewritten(path, zipfile.ZIP_DEFLATED, bomb=bytes(1 << 26))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="cannot be read"):
        load_classifier(path)
    save(path)
    with zipfile.ZipFile(path) as archive:
        data = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    claimed = data.replace(b"M\x26\x01", b"J\xff\xff\xff\x7f", 1)  # 6 x 7 x 7 values in the first weight
    assert claimed != data
    rewritten(path, **{"data.pkl": claimed})
    weights = read_checkpoint(path)["state_dict"]["network.features.0.weight"]
    assert weights.untyped_storage().nbytes() <= path.stat().st_size  # mapped from the file, and no further
    for content in (b"", b"\x80\x02.", b"\x80\x02s.", b"junk"):
        save(path)
        rewritten(path, **{"data.pkl": content})
        with pytest.raises(DataError, match="cannot be read"):
            load_classifier(path)


def test_the_old_format_is_none_of_ours(tmp_path):
    torch.save({"fastcell_format": 1}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint(tmp_path / "old.ckpt")


def test_a_run_goes_on_from_none_but_ours(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(DataError, match="was not written by fastcell fit"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "foreign.ckpt", weights_only=False)


def same(one, other):
    """Whether two contents of a checkpoint are equal, tensors by value, shape and dtype."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[name]) for name, value in one.items())
    return one == other


def test_damage_inside_is_found_or_harmless(tmp_path):
    """A bit that flips or a page that is zeroed, at 600 places: refused by name, or the same content."""
    save(tmp_path / "a.ckpt")
    data, rng = (tmp_path / "a.ckpt").read_bytes(), random.Random(0)
    good, path, refused = read_checkpoint(tmp_path / "a.ckpt"), tmp_path / "hurt.ckpt", 0
    for number in range(600):
        hurt = bytearray(data)
        if number % 3:
            hurt[rng.randrange(len(data) if number % 3 == 1 else 9000) * -1] ^= 1 << rng.randrange(8)
        else:
            begin = rng.randrange(len(data)) // 512 * 512
            hurt[begin : begin + 512] = bytes(len(hurt[begin : begin + 512]))
        path.write_bytes(hurt)
        try:
            found = read_checkpoint(path)
        except DataError as error:
            refused += str(path) in str(error)
        else:
            assert same(good, found), number
    assert 400 < refused < 600


def test_a_file_that_may_not_become_so_large_is_an_error_with_a_number(tmp_path):
    """torch writes in C++, whose error has none."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large") as caught:
            save_checkpoint({"weights": torch.zeros(1 << 16)}, tmp_path / "best.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
