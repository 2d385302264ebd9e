"""The command `convert`: every form, from one table of predictions of real keys."""

import json

import flowio
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from fastcell.cli import main as cli
from fastcell.dataset.parquet import write_parquet
from fastcell.predictions import convert
from fastcell.predictions.table import read_predictions, write_csv_or_parquet

CLASSES = ["alpha", "beta", "Be"]


def make_predictions(path, keys, without=()):
    """Write predictions of cells with these keys; gives (N, 3) float32, NaN in the rows `without` one."""
    scores = np.random.default_rng(0).dirichlet(np.ones(3), len(keys)).astype(np.float32)
    scores[list(without)] = np.nan
    missing = np.isnan(scores[:, 0])
    names = np.array(CLASSES, object)[np.nan_to_num(scores).argmax(axis=1)]
    columns = {"key": keys, "group": ["g"] * len(keys), "class": pa.array(names, pa.string(), mask=missing)}
    columns |= {f"p_{name}": pa.array(scores[:, number], mask=missing) for number, name in enumerate(CLASSES)}
    columns["reason"] = pa.array(np.where(missing, "lost", None), pa.string())
    write_csv_or_parquet(path, pa.table(columns))
    return scores


def add_features(manifest, keys, features):
    """Write features.parquet, whose rows stand in the order of `keys`."""
    ids = {key: number for number, key in enumerate(manifest.column("key").tolist())}
    table = pa.table({"cell_id": [ids[key] for key in keys], **features})
    write_parquet(manifest.path / "features.parquet", table)


def test_fcs_has_every_value(make_set, tmp_path, capsys):
    keys = [f"M1.rtdc/{number:06d}" for number in range(50)]
    scores = make_predictions(tmp_path / "p.parquet", keys, without=(4, 7))
    area = np.random.default_rng(1).normal(50, 5, 50)
    area[9] = np.nan
    add_features(make_set(keys=keys), keys, {"area_um": area})
    out = tmp_path / "cells.fcs"
    assert cli.main(["convert", str(tmp_path / "p.parquet"), str(out), "--data", str(tmp_path / "set")]) == 0
    text = capsys.readouterr().out
    assert "50 events, 9 parameters" in text
    assert "events without a prediction, with -1 in class and probabilities: 2" in text
    assert "events without feature area_um, with 0 in it: 1" in text
    read = flowio.FlowData(out)
    values = np.asarray(read.events, np.float32).reshape(50, 9)
    labels = ["event", "class", "confidence", "unsure", "reason", "p_alpha", "p_beta", "p_Be", "area_um"]
    assert read.pnn_labels == labels
    np.testing.assert_array_equal(values[:, 0], np.arange(50))
    np.testing.assert_array_equal(values[:, 5:8], np.nan_to_num(scores, nan=-1))
    np.testing.assert_array_equal(values[:, 2], np.nan_to_num(scores.max(axis=1), nan=-1))
    expected = np.where(np.isnan(scores[:, 0]), -1, np.nan_to_num(scores).argmax(axis=1))
    np.testing.assert_array_equal(values[:, 1], expected)
    np.testing.assert_array_equal(values[:, 3], np.where(np.isnan(scores[:, 0]), -1, 0))
    np.testing.assert_array_equal(values[:, 4], np.isnan(scores[:, 0]))
    assert json.loads(read.text["fastcell_reasons"]) == ["lost"]
    np.testing.assert_array_equal(values[:, 8], np.nan_to_num(area).astype(np.float32))
    assert json.loads(read.text["fastcell_classes"]) == CLASSES
    assert json.loads(read.text["fastcell_unknown"]) == {"area_um": 1}
    assert read.text["fastcell_no_prediction"] == "-1"
    assert read.pnr_values == [49, 3, 1, 1, 1, 1, 1, 1, np.ceil(np.nanmax(area))]


def test_predictions_are_written_as_fcs_at_once(make_set, tmp_path):
    """As `predict --out` does: the same bytes as by way of a table."""
    keys = [f"cell {number}" for number in range(20)]
    make_predictions(tmp_path / "p.parquet", keys, without=(2,))
    manifest = make_set(keys=keys)
    add_features(manifest, keys, {"area_um": np.arange(20) / 4})
    predictions = read_predictions(tmp_path / "p.parquet")
    lines = convert.write_predictions(tmp_path / "a.fcs", predictions.table, CLASSES, manifest)
    assert lines == ["events without a prediction, with -1 in class and probabilities: 1"]
    convert.convert(predictions, tmp_path / "b.fcs", data=manifest.path)
    assert (tmp_path / "a.fcs").read_bytes() == (tmp_path / "b.fcs").read_bytes()
    assert flowio.FlowData(tmp_path / "a.fcs").channel_count == 9


@pytest.mark.parametrize(("start", "end"), [("csv", "parquet"), ("parquet", "csv")])
def test_tables_with_features(make_set, tmp_path, start, end):
    keys = [f"M1.rtdc/{number:06d}" for number in range(9)]
    make_predictions(tmp_path / f"p.{start}", keys, without=(2,))
    add_features(make_set(keys=keys), keys, {"area_um": np.arange(9) / 4})
    arguments = [str(tmp_path / f"p.{start}"), str(tmp_path / f"q.{end}"), "--data", str(tmp_path / "set")]
    assert cli.main(["convert", *arguments]) == 0
    reader = pyarrow.csv.read_csv if end == "csv" else pyarrow.parquet.read_table
    table = reader(tmp_path / f"q.{end}")
    assert table.column("area_um").to_pylist() == (np.arange(9) / 4).tolist()
    assert table.column("key").to_pylist() == keys
    assert table.column("p_beta").null_count == 1


FLAGS = {
    "confidence": [0.7, 0.6, 0.5, 0.8, -1],
    "unsure": [0, 0, 1, 0, -1],
    "unlike_training": [0, 1, 0, -1, -1],
    "unlike_score": [0.5, 2.0, 0.25, -1, -1],
    "reason": [0, 0, 1, 0, 2],
    "unlike_reason": [0, 1, 0, 0, 0],
}
"""Numbers of the cells of `make_flags`; -1 is unknown."""


def make_flags(path, keys):
    """Write predictions of 5 cells: sure; unlike; unsure; without a score; without a prediction. Gives (5, 3)."""
    best = np.array([0.7, 0.6, 0.5, 0.8, np.nan], np.float32)
    scores = np.stack([best, (1 - best) / 2, (1 - best) / 2], axis=1)
    columns = {"key": keys, "class": ["alpha", "alpha", "unsure", "alpha", None]}
    columns |= {f"p_{name}": pa.array(scores[:, k], mask=np.isnan(best)) for k, name in enumerate(CLASSES)}
    columns["confidence"] = pa.array(best, mask=np.isnan(best))
    columns["reason"] = pa.array([None, None, "confidence below 0.55", None, "could not be read"])
    columns["unlike_training"] = pa.array([False, True, False, None, None])
    columns["unlike_score"] = pa.array([0.5, 2.0, 0.25, None, None], pa.float32())
    columns["unlike_reason"] = pa.array([None, "larger, smoother", None, None, None])
    write_csv_or_parquet(path, pa.table(columns))
    return scores


def test_a_gate_in_fcs_has_every_flag(make_set, tmp_path):
    """A feature of the same name does not replace a flag."""
    keys = [f"M1.rtdc/{number:06d}" for number in range(5)]
    make_flags(tmp_path / "p.parquet", keys)
    add_features(make_set(keys=keys), keys, {"unsure": np.full(5, 9.0)})
    arguments = [str(tmp_path / "p.parquet"), str(tmp_path / "a.fcs"), "--data", str(tmp_path / "set")]
    assert cli.main(["convert", *arguments]) == 0
    read = flowio.FlowData(tmp_path / "a.fcs")
    values = dict(zip(read.pnn_labels, np.asarray(read.events, np.float32).reshape(5, -1).T, strict=True))
    for name, expected in FLAGS.items():
        np.testing.assert_array_equal(values[name], np.array(expected, np.float32), name)
    assert values["class"].tolist() == [0, 0, -1, 0, -1]
    assert values["event"].tolist() == [0, 1, 2, 3, 4]
    assert values["feature_unsure"].tolist() == [9] * 5
    assert json.loads(read.text["fastcell_reasons"]) == ["confidence below 0.55", "could not be read"]
    assert json.loads(read.text["fastcell_unlike_reasons"]) == ["larger, smoother"]


def test_event_numbers_that_fcs_rounds_are_named(tmp_path, capsys):
    make_flags(tmp_path / "p.parquet", [f"M1.rtdc/{(1 << 24) + number}" for number in range(5)])
    assert cli.main(["convert", str(tmp_path / "p.parquet"), str(tmp_path / "a.fcs")]) == 0
    assert "event numbers above 16,777,216 are rounded" in capsys.readouterr().out


def test_a_gate_in_copies_of_rtdc_has_every_flag(tmp_path, capsys):
    """The second copy, of a file that has two free features only, says which flags it has no place for."""
    with h5py.File(tmp_path / "M1.rtdc", "w") as file:
        file["events/image"] = np.zeros((6, 4, 5), np.uint8)
        file["events/userdef1"] = np.full(6, 3.0)
    make_flags(tmp_path / "p.parquet", [f"M1.rtdc/{number:06d}" for number in range(5)])
    once, twice = tmp_path / "once.rtdc", tmp_path / "twice" / "M1.rtdc"
    words = ["convert", str(tmp_path / "p.parquet")]
    assert cli.main([*words, str(once), "--rtdc-source", str(tmp_path)]) == 0
    names = {name: f"userdef{place}" for name, place in zip(FLAGS, (0, 2, 3, 4, 5, 6), strict=True)}
    assert ", ".join(f"{feature} {name}" for name, feature in names.items()) in capsys.readouterr().out
    with h5py.File(once) as file:
        for name, feature in names.items():
            expected = np.array([*FLAGS[name], -1], np.float32)
            expected[expected == -1] = np.nan
            np.testing.assert_array_equal(file["events"][feature][:], expected, name)
        assert file["events/ml_class"][:].tolist() == [0, 0, -1, 0, -1, -1]
        assert file["events/userdef1"][:].tolist() == [3] * 6
        log = file["logs/fastcell"][:].tolist()
    assert b"userdef5, reason: 0 none; 1 confidence below 0.55; 2 could not be read" in log
    twice.parent.mkdir()
    once.rename(twice)
    with h5py.File(twice, "r+") as file:
        for number in (7, 8, 9):
            file[f"events/userdef{number}"] = np.full(6, 3.0)
        del file["events/userdef6"], file["events/userdef5"]
        file["events/userdef5"] = file["events/userdef6"] = np.full(6, 3.0)
        del file["logs/fastcell"]
        file["logs/fastcell"] = np.array([line for line in log if not line.startswith((b"userdef5", b"userdef6"))])
    assert cli.main([*words, str(tmp_path / "again.rtdc"), "--rtdc-source", str(twice.parent)]) == 0
    text = capsys.readouterr().out
    assert "userdef0 confidence, userdef2 unsure, userdef3 unlike_training, userdef4 unlike_score; " in text
    assert "no user-defined feature is free for reason, unlike_reason" in text
    with h5py.File(tmp_path / "again.rtdc") as file:
        assert [name for name in file["events"] if file["events"][name][0].max() == 3] == [
            f"userdef{number}" for number in (1, 5, 6, 7, 8, 9)
        ]


def test_a_gate_in_class_scores_of_ifcb_has_every_flag(tmp_path):
    bin_name = "D20130526T095207_IFCB013"
    scores = make_flags(tmp_path / "p.parquet", [f"{bin_name}/{number:06d}" for number in range(1, 6)])
    assert cli.main(["convert", str(tmp_path / "p.parquet"), str(tmp_path / "a.h5")]) == 0
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["output_scores"][:], scores[:4])
        assert file["roi_numbers"][:].tolist() == [1, 2, 3, 4]
        assert file["output_classes"][:].tolist() == [0, 0, 0, 0]
        for name in ("confidence", "unsure", "unlike_training"):
            np.testing.assert_array_equal(file[name][:], np.array(FLAGS[name][:4], file[name].dtype), name)
        np.testing.assert_array_equal(file["unlike_score"][:], [0.5, 2.0, 0.25, np.nan])
        assert file["reason"].asstr()[:].tolist() == ["", "", "confidence below 0.55", ""]
        assert file["unlike_reason"].asstr()[:].tolist() == ["", "larger, smoother", "", ""]
        assert file["left_out_roi_numbers"][:].tolist() == [5]
        assert file["left_out_reason"].asstr()[:].tolist() == ["could not be read"]


def test_real_ifcb_bins(real_data, tmp_path, capsys):
    """Regions of interest as the bins' own .adc files number them, from 1 at the first row."""
    rois = {}
    for path in sorted((real_data / "ifcb").glob("*.adc")):
        width = 15 if path.stem.startswith("D") else 11
        rows = [line.split(",") for line in path.read_text().splitlines()]
        rois[path.stem] = [number for number, row in enumerate(rows, 1) if int(row[width]) * int(row[width + 1])]
    assert sorted(len(numbers) for numbers in rois.values()) == [0, 6, 19]
    keys = [f"{name}/{number:06d}" for name, numbers in rois.items() for number in numbers]
    scores = make_predictions(tmp_path / "p.csv", keys, without=(3,))
    out = tmp_path / "scores"
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(out), "--model-id", "run-1"]) == 0
    text = capsys.readouterr().out
    assert "24 regions of interest in 2 bins\n1 without a prediction are left out; left_out_roi_numbers" in text
    assert sorted(path.name for path in out.iterdir()) == [
        "D20130526T095207_IFCB013_class.h5",
        "IFCB5_2012_028_081515_class.h5",
    ]
    for name in ("D20130526T095207_IFCB013", "IFCB5_2012_028_081515"):
        rows = [row for row, key in enumerate(keys) if key.startswith(name) and row != 3]
        with h5py.File(out / f"{name}_class.h5") as file:
            np.testing.assert_array_equal(file["output_scores"][:], scores[rows])
            assert file["roi_numbers"][:].tolist() == [int(keys[row].split("/")[1]) for row in rows]
            assert (file["metadata"].attrs["bin_id"], file["metadata"].attrs["model_id"]) == (name, "run-1")
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(out)]) == 2
    assert "OUT must be a new or empty folder" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(tmp_path / "one.h5")]) == 2
    assert "OUT must be a folder for 2 bins" in capsys.readouterr().err


def test_real_rtdc_files(real_data, tmp_path, capsys):
    source = real_data / "rtdc"
    names = {"dcnum_cytoshot-test-data.rtdc": 40, "dcnum_dcnum_thresh_example.rtdc": 13}
    keys = [f"{name}/{number:06d}" for name, count in names.items() for number in range(0, count, 3)]
    keys = np.random.default_rng(0).permutation(keys).tolist()
    scores = make_predictions(tmp_path / "p.parquet", keys, without=(0,))
    arguments = ["convert", str(tmp_path / "p.parquet"), str(tmp_path / "copies")]
    assert cli.main(arguments) == 2
    assert "--rtdc-source must be given" in capsys.readouterr().err
    assert cli.main([*arguments, "--rtdc-source", str(source)]) == 0
    text = capsys.readouterr().out
    assert "2 files, 18 of 53 events with scores" in text
    assert "ml_score_alp alpha, ml_score_bet beta, ml_score_bex Be" in text
    for name, count in names.items():
        expected = np.full((count, 3), np.nan, np.float32)
        for key, row in zip(keys, scores, strict=True):
            if key.startswith(name):
                expected[int(key.split("/")[1])] = row
        with h5py.File(tmp_path / "copies" / name) as file:
            for column, tag in enumerate(["alp", "bet", "bex"]):
                np.testing.assert_array_equal(file[f"events/ml_score_{tag}"][:], expected[:, column])
            assert (file["events/ml_class"][:] < 0).sum() == np.isnan(expected[:, 0]).sum()
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in names:  # the second one is cut off: no folder with the first alone
        (torn / name).write_bytes((source / name).read_bytes()[: None if name == keys[0].split("/")[0] else 5_000])
    assert cli.main(["convert", str(tmp_path / "p.parquet"), str(tmp_path / "half"), "--rtdc-source", str(torn)]) == 2
    assert "cannot be used as an RT-DC file" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copies", "p.parquet", "torn"]
    one = str(tmp_path / "one.rtdc")
    assert cli.main(["convert", str(tmp_path / "p.parquet"), one, "--rtdc-source", str(source)]) == 2
    assert "OUT must be a folder for 2 RT-DC files" in capsys.readouterr().err


def test_one_rtdc_file_with_names_of_the_users(real_data, tmp_path):
    source = real_data / "rtdc" / "dcnum_dcnum_thresh_example.rtdc"
    keys = [f"{source.name}/{number:06d}" for number in range(13)]
    scores = make_predictions(tmp_path / "p.csv", keys)
    arguments = ["convert", str(tmp_path / "p.csv"), str(tmp_path / "one.rtdc"), "--rtdc-source", str(source)]
    assert cli.main([*arguments, "--scores", "zzz,bbb,ccc"]) == 0
    with h5py.File(tmp_path / "one.rtdc") as file:
        np.testing.assert_array_equal(file["events/ml_score_zzz"][:], scores[:, 0])
        np.testing.assert_array_equal(file["events/ml_class"][:], scores[:, [1, 2, 0]].argmax(axis=1))
    other = real_data / "rtdc" / "dcnum_cytoshot-test-data.rtdc"
    assert cli.main([*arguments[:-1], str(other)]) == 2
    assert cli.main([*arguments, "--scores", "zzz,bbb"]) == 2


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.txt", "OUT must be a name that ends in .csv, .parquet, .fcs, .h5, .rtdc, or a folder"),
        ("none/a.csv", "OUT must be a file in an existing folder"),
        ("folder", "needs cells of IFCB bins (.h5) or of RT-DC files (.rtdc), got 'a/b.png'"),
        ("a.rtdc", "needs cells of IFCB bins (.h5) or of RT-DC files (.rtdc), got 'a/b.png'"),
        ("p.csv", "OUT must be a different file from the input"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, capsys, out, message):
    make_predictions(tmp_path / "p.csv", ["a/b.png", "a/c.png"])
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_keys_do_not_leave_the_folder(tmp_path, capsys):
    make_predictions(tmp_path / "p.csv", ["../x/M1.rtdc/000001"])
    arguments = ["convert", str(tmp_path / "p.csv"), str(tmp_path / "out"), "--rtdc-source", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "must be an event of an RT-DC file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_whose_name_on_disk_is_in_the_other_unicode_form(tmp_path):
    source = tmp_path / "src"
    (source / "Gro\u0308\u00dfe").mkdir(parents=True)
    with h5py.File(source / "Gro\u0308\u00dfe" / "m.rtdc", "w") as file:
        file["events/image"] = np.zeros((3, 4, 5), np.uint8)
    make_predictions(tmp_path / "p.csv", [f"Gr\u00f6\u00dfe/m.rtdc/{number:06d}" for number in range(3)])
    out = tmp_path / "out"
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(out), "--rtdc-source", str(source)]) == 0
    with h5py.File(out / "Gr\u00f6\u00dfe" / "m.rtdc") as file:
        assert file["events/ml_class"].shape == (3,)


@pytest.mark.parametrize("words", [["--rtdc-source", "none"], ["--scores", "aaa,bbb,ccc"], ["--model-id", "mine"]])
def test_options_without_an_effect_are_refused(tmp_path, capsys, words):
    make_predictions(tmp_path / "p.csv", ["a/1.png", "b/2.png"])
    assert cli.main(["convert", str(tmp_path / "p.csv"), str(tmp_path / "out.fcs"), *words]) == 2
    assert f"{words[0]} must be left out: it affects" in capsys.readouterr().err
    assert not (tmp_path / "out.fcs").exists()
