"""Files that are not packed: the predictions of ``pack`` and ``predict``, byte by byte, also after an interrupt."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.unpacked_files import SOURCES, TOLERANCE, assert_equal_tables, fixed_classifier, make_folder, make_rtdc

import fastcell
from fastcell.cli.predict import main as predict_main
from fastcell.inference.classify_files import classify_source
from fastcell.inference.source_cells import open_cells
from fastcell.packing.pack import pack
from fastcell.predictions import from_source
from fastcell.predictions.from_source import predict_source
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions

NO_SPLIT = SplitOptions(shares=None)


@pytest.mark.parametrize("name", SOURCES)
def test_the_rows_are_those_of_pack_and_predict(trained_run, tmp_path, name):
    make, options = SOURCES[name]
    src = make(tmp_path / "src")
    pattern, window = options.get("pattern"), options.get("window")
    packed = pack(
        src,
        tmp_path / "packed",
        pattern=pattern or ("{name}" if name in ("flat", "deep") else None),
        window=window,
        split=NO_SPLIT,
        allow_absent=True,
        jobs=1,
    )
    flags = [f"--pattern={pattern}"] if pattern else []
    flags += ["--window", "100", "3000"] if window else []
    outs = tmp_path / "packed.parquet", tmp_path / "source.parquet"
    common = ["--data.threads=1"]
    assert predict_main([str(trained_run), str(packed.path), "--out", str(outs[0]), *common]) == 0
    assert predict_main([str(trained_run), *flags, str(src), "--out", str(outs[1]), *common]) == 0
    expected = pq.read_table(outs[0])
    assert_equal_tables(pq.read_table(outs[1]), expected)
    if name in ("folder", "ifcb"):
        assert expected.column("reason").null_count < len(expected)
    if name in ("folder", "rtdc"):
        assert len(set(expected.column("group").to_pylist())) >= 2
    if not options:
        assert_equal_tables(fastcell.load(trained_run, threads=1).predict(src).to_table(), expected)
        assert_equal_tables(fastcell.load(trained_run, threads=1).predict(packed.path).to_table(), expected)


def test_an_interrupted_run_goes_on_and_writes_the_same_bytes(trained_run, tmp_path, monkeypatch):
    src = make_folder(tmp_path / "src")
    one = fixed_classifier()
    one.chunk = 8
    checkpoint = next(trained_run.glob("*.ckpt"))
    said = []

    def run(out, stop_after=None):
        cells = open_cells(src, read=ReadOptions(pattern="{group}/{class}/{name}"))
        calls = []

        def classify(classifier, cells, begin, jobs):
            for part in classify_source(classifier, cells, begin, jobs):
                calls.append(part.begin)
                yield part
                if len(calls) == stop_after:
                    raise KeyboardInterrupt

        monkeypatch.setattr(from_source, "classify_source", classify)
        predict_source(one, cells, tmp_path / out, checkpoint, said.append)
        return len(calls)

    whole = run("whole.csv")
    with pytest.raises(KeyboardInterrupt):
        run("parts.csv", 3)
    assert not (tmp_path / "parts.csv").exists()
    assert run("parts.csv") == whole - 3
    assert said[-1] == "resuming: an interrupted run has finished 1 part"
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        run("again.csv", 3)
    first = next(iter(open_cells(src, read=ReadOptions(pattern="{group}/{class}/{name}")).order)).key
    (src / first).write_bytes((src / first).read_bytes() + b" ")
    assert run("again.csv") == whole  # its cells have changed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "parts.csv", "src", "whole.csv"]


def test_fcs_has_the_features_of_the_instrument(trained_run, tmp_path):
    src = make_rtdc(tmp_path / "src")
    packed = pack(src, tmp_path / "packed", split=NO_SPLIT, jobs=1)
    outs = tmp_path / "packed.fcs", tmp_path / "source.fcs"
    for data, out in zip((packed.path, src), outs, strict=True):
        assert predict_main([str(trained_run), str(data), "--out", str(out), "--data.threads=1"]) == 0
    flowio = pytest.importorskip("flowio", reason="flowio is not installed")
    found, expected = (np.array(flowio.FlowData(str(out)).events) for out in reversed(outs))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert b"deform" in outs[1].read_bytes()
