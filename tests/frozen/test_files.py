"""Frozen files: names, columns and keys of everything that the commands write."""

import csv
import json
import shutil

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

FILE = "surface.json.xz"
# Sections of the environment whose keys are a machine's, not the program's.
OF_THE_MACHINE = ("packages", "gpus", "probes")


def keys_of(value):
    """Nested keys without values; the elements of a list count as one."""
    if isinstance(value, dict):
        return {name: None if name in OF_THE_MACHINE else keys_of(item) for name, item in value.items()}
    if isinstance(value, list):
        merged = None
        for item in value:
            merged = merge(merged, keys_of(item))
        return None if merged is None else [merged]
    return None


def merge(one, other):
    """Nested keys of both."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: merge(one.get(name), other.get(name)) for name in sorted({*one, *other})}
    return other if one is None else one


def dotted(value, prefix=""):
    if not isinstance(value, dict) or not value:
        return [prefix]
    return [name for key, item in value.items() for name in dotted(item, f"{prefix}.{key}" if prefix else str(key))]


def describe(path):
    """Columns or keys of a file; None where its name says all."""
    if path.suffix == ".parquet":
        schema = pq.read_schema(path)
        return [f"{field.name}: {field.type}" for field in schema]
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return next(csv.reader(file))
    if path.suffix == ".json":
        return keys_of(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".yaml":
        names = dotted(yaml.safe_load(path.read_text(encoding="utf-8")))
        return [name for name in names if not name.startswith("trainer.")]  # those are Lightning's
    if path.suffix in (".h5", ".rtdc"):
        return datasets(path)
    if path.suffix == ".fcs":
        import flowio

        read = flowio.FlowData(path)
        return {"events": read.pnn_labels, "text": sorted(read.text)}
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path)
        return {
            "inputs": [item.name for item in model.graph.input],
            "outputs": [item.name for item in model.graph.output],
            "metadata": sorted(item.key for item in model.metadata_props),
        }
    if path.suffix == ".ckpt":
        import torch

        content = torch.load(path, weights_only=True)
        weights = content["state_dict"]
        return {
            "keys": sorted(content),
            "hyper_parameters": sorted(content["hyper_parameters"]),
            "datamodule_hyper_parameters": sorted(content.get("datamodule_hyper_parameters", {})),
            "data": {name: keys_of(value) for name, value in content.items() if name == "CellDataModule"},
            "state_dict": {name: [str(value.dtype), *value.shape] for name, value in weights.items()},
            "callbacks": sorted(name.split("{")[0] for name in content.get("callbacks", {})),
        }
    return None


def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update(
                {name: [str(getattr(item, "dtype", "group")), *sorted(item.attrs)]}  # no value
            )
        )
        found["attributes"] = sorted(file.attrs)
    return found


def tree(folder):
    """Every file below a folder with what is in it; of many alike, the first."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): describe(path) for path in paths}


# -- data sets


def test_synth(frozen, call, tmp_path):
    for layout in ("cell", "block"):
        call("synth", tmp_path / layout, "--layout", layout, "--cells", 60, "--jobs", 1, "--defects", 0.2)
        frozen(FILE, f"files of synth, {layout}", tree(tmp_path / layout))


def test_folds(frozen, call, tmp_path):
    call("synth", tmp_path / "cells", "--cells", 60, "--jobs", 1, "--folds", 3)
    frozen(FILE, "files of synth, folds", tree(tmp_path / "cells"))


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_pack_split_and_verify(layout, frozen, call, images, tmp_path):
    """A damaged image goes to the quarantine, a damaged cell into the list of verify."""
    source, out = tmp_path / "images", tmp_path / "cells"
    shutil.copytree(images, source)
    (source / "donor-0" / "A" / "torn.png").write_bytes(b"no image")
    words = ["--pattern", "{group}/{class}/{name}", "--jobs", 1, "--layout", layout]
    call("pack", source, tmp_path / "strict", *words, "--strict", status=3)
    call("pack", source, out, *words)
    frozen(FILE, f"files of pack, {layout}", tree(out))
    call("split", out, "--group-by", "group", "--jobs", 1)
    call("split", out, "--group-by", "group", "--jobs", 1, "--name", "again", "--folds", 3)
    call("split", out, "--group-by", "group", "--jobs", 1, status=2)
    frozen(FILE, f"files of split, {layout}", tree(out))
    call("verify", out, "--list", tmp_path / "lost.csv", "--jobs", 1)
    (shard,) = out.glob("*.tar")
    content = bytearray(shard.read_bytes())
    for start in range(len(content) // 3, len(content) // 3 + 3000):
        content[start] ^= 0xFF
    shard.write_bytes(content)
    call("verify", out, "--list", tmp_path / "lost.csv", "--jobs", 1, status=1)
    frozen(FILE, f"list of verify, {layout}", describe(tmp_path / "lost.csv"))


def test_index(frozen, call, images, tmp_path):
    import tarfile

    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as file:
        for path in sorted(images.rglob("*.png")):
            file.add(path, f"{path.parent.name}/{path.name}")
    call("index", tmp_path / "tars", "--pattern", "{class}/{name}", "--jobs", 1)
    call("index", tmp_path / "tars", "--pattern", "{class}/{name}", "--jobs", 1, "--out", tmp_path / "beside")
    frozen(FILE, "files of index", {"in place": tree(tmp_path / "tars"), "beside": tree(tmp_path / "beside")})


def test_qc(frozen, call, tmp_path):
    call("synth", tmp_path / "cells", "--cells", 120, "--jobs", 1, "--defects", 0.5)
    call("qc", tmp_path / "cells", "--apply", "--review", tmp_path / "review", "--jobs", 1)
    found = {"data": tree(tmp_path / "cells"), "review": tree(tmp_path / "review")}
    call("qc", tmp_path / "cells", "--verdicts", tmp_path / "review" / "review.csv")
    frozen(FILE, "files of qc", {**found, "after --verdicts": tree(tmp_path / "cells")})


def test_info(frozen, call, packed, tmp_path):
    call("info", packed, "--figures", tmp_path / "figures")
    frozen(FILE, "files of info", tree(tmp_path / "figures"))


def test_doctor(frozen, capsys):
    from fastcell.cli.main import main

    assert main(["doctor", "--json"]) in (0, 2)
    frozen(FILE, "keys of doctor --json", keys_of(json.loads(capsys.readouterr().out)))


# -- a run

SMALL = ["--data.image_size=32", "--data.threads=1", "--data.batch_size=16", "--model.network=gao"]
CPU = "--trainer.accelerator=cpu"


@pytest.fixture(scope="module")
def run(packed, call, tmp_path_factory):
    """Run folder of ten steps, with a validation part."""
    runs = tmp_path_factory.mktemp("runs")
    call("fit", f"--data.path={packed}", f"--runs={runs}", *SMALL, "--trainer.max_epochs=2", CPU)
    (folder,) = runs.iterdir()
    return folder


def apply(call, command, run, data, out, *more):
    call(command, f"--ckpt_path={run / 'best.ckpt'}", f"--data.path={data}", f"--out={out}", CPU, *more)


def test_fit(run, frozen):
    frozen(FILE, "files of fit", tree(run))
    frozen(FILE, "preset in a run folder's name", run.name.split("-", 2)[2])


def test_evaluation_and_prediction(run, packed, frozen, call, tmp_path):
    for command in ("validate", "test", "predict"):
        for ending in ("csv", "parquet", "fcs"):
            apply(call, command, run, packed, tmp_path / f"{command}.{ending}")
    call("count", tmp_path / "predict.csv", "--out", tmp_path / "count.csv", "--confusion", run / "confusion.csv")
    call("count", tmp_path / "predict.csv", "--out", tmp_path / "count.parquet", "--confusion", run / "confusion.csv")
    call("convert", tmp_path / "predict.csv", tmp_path / "converted.parquet", "--data", packed)
    call("convert", tmp_path / "predict.csv", tmp_path / "converted.fcs", "--data", packed)
    frozen(FILE, "files of validate, test, predict, count, convert", tree(tmp_path))


def test_lost_cells_of_a_run(packed, frozen, call, tmp_path):
    data = tmp_path / "cells"
    shutil.copytree(packed, data)
    shard = sorted(data.glob("*.tar"))[0]
    content = bytearray(shard.read_bytes())
    content[600:700] = bytes(100)
    shard.write_bytes(content)
    words = [f"--data.path={data}", f"--runs={tmp_path / 'runs'}", *SMALL, "--trainer.max_epochs=1", CPU]
    call("fit", *words)
    (folder,) = (tmp_path / "runs").iterdir()
    frozen(FILE, "lost cells of a run", {"columns": describe(folder / "losses.csv")})


def test_rtdc(run, frozen, call, tmp_path):
    rng = np.random.default_rng(0)
    source = tmp_path / "source" / "m1.rtdc"
    source.parent.mkdir()
    with h5py.File(source, "w") as file:
        file.attrs["imaging:pixel size"] = 0.34
        file["events/image"] = rng.integers(0, 256, (20, 18, 22)).astype(np.uint8)
        file["events/deform"] = rng.random(20).astype(np.float32)
        file["events/area_um"] = rng.random(20)
    call("pack", source.parent, tmp_path / "cells", "--jobs", 1)
    frozen(FILE, "files of pack, rtdc", tree(tmp_path / "cells"))
    apply(call, "predict", run, tmp_path / "cells", tmp_path / "p.csv")
    words = ["--rtdc-source", source.parent]
    call("convert", tmp_path / "p.csv", tmp_path / "copies", *words)
    call("convert", tmp_path / "p.csv", tmp_path / "one.rtdc", *words, "--scores", "aaa,bbb,ccc")
    frozen(
        FILE, "files of convert, rtdc", {"folder": tree(tmp_path / "copies"), "one": describe(tmp_path / "one.rtdc")}
    )


def test_ifcb(run, frozen, call, tmp_path):
    name = "IFCB5_2012_028_081515"
    rows = [f"{number},0,0,0,0,0,0,0,0,{number},0,16,20,{320 * number},0\n" for number in range(8)]
    (tmp_path / "bins").mkdir()
    (tmp_path / "bins" / f"{name}.adc").write_text("".join(rows))
    pixels = np.random.default_rng(0).integers(0, 256, 320 * 8).astype(np.uint8)
    (tmp_path / "bins" / f"{name}.roi").write_bytes(pixels.tobytes())
    call("pack", tmp_path / "bins", tmp_path / "cells", "--jobs", 1)
    frozen(FILE, "files of pack, ifcb", tree(tmp_path / "cells"))
    apply(call, "predict", run, tmp_path / "cells", tmp_path / "p.csv")
    call("convert", tmp_path / "p.csv", tmp_path / "scores")
    frozen(FILE, "files of convert, ifcb", tree(tmp_path / "scores"))


@pytest.mark.slow
def test_export(run, packed, frozen, call, tmp_path):
    call("export", run, tmp_path / "net.onnx", "--data", packed, "--check", 20)
    frozen(FILE, "files of export", tree(tmp_path))


@pytest.mark.slow
def test_audit(run, frozen, call, draw_cell, png, tmp_path):
    """Of 300 cells in three groups, one of 25 with a wrong label, the background of B brighter."""
    for number in range(300):
        label = number % 2
        name = "AB"[1 - label if number % 25 == 0 else label]
        path = tmp_path / "images" / f"g{number // 2 % 3}" / name / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(draw_cell(number, label) + np.uint8(15 * label)))
    data, out = tmp_path / "cells", tmp_path / "audit"
    call("pack", tmp_path / "images", data, "--pattern", "{group}/{class}/{name}", "--split", "50/0/50", "--jobs", 1)
    apply(call, "predict", run, data, tmp_path / "predictions.parquet")
    call("audit", data, tmp_path / "predictions.parquet", "--out", out, "--permutations", 50, "--jobs", 1)
    frozen(FILE, "files of audit", tree(out))


@pytest.mark.slow
def test_explain_and_report(run, frozen, call, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    call("explain", tmp_path / "run", "--cells=4", "--positions=4", "--embed=12")
    frozen(FILE, "files of explain", tree(tmp_path / "run" / "explain"))
    before = set(tree(tmp_path / "run"))
    call("report", tmp_path / "run", "--cells", 20)
    frozen(FILE, "files of report", sorted(set(tree(tmp_path / "run")) - before))


COMPARE = ["--methods", "svm,knn,gao", "--volumes", "1", "--seeds", "1", "--pca", "8", "--min-steps", "4"]
FEW = ["--data.image_size", "16", "--data.batch_size", "32", "--trainer.max_epochs", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("study", ["volume", "loss", "resolution", "leakage"])
def test_compare(study, packed, frozen, call, tmp_path):
    words = [*COMPARE, "--study", study, "--out", tmp_path / "study", *FEW]
    words += {"loss": ["--steps", 6], "resolution": ["--sizes", "16,24"], "leakage": ["--folds", 2]}.get(study, [])
    if study == "leakage":
        words[1] = "knn"
    call("compare", packed, *words)
    frozen(FILE, f"files of compare, {study}", tree(tmp_path / "study"))


@pytest.mark.slow
def test_bench(packed, frozen, call, tmp_path):
    call("bench", packed, "--seconds", 1, "--cells", 40, "--threads", 1, "--out", tmp_path / "bench.json")
    frozen(FILE, "keys of bench --out", describe(tmp_path / "bench.json"))
