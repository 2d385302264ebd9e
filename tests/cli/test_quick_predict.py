"""``fastcell predict`` with a prepared backend: no torch, the same bytes for any threads, chunks and processes."""

import subprocess
import sys
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.cli import quick_predict
from fastcell.cli.predict import main
from fastcell.cli.quick_predict import predict_quickly, understood
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.inference.backends.openvino_network import OpenVinoNetwork

INT8 = ["--backend=openvino", "--precision=int8"]


@pytest.fixture(scope="module")
def predicted(prepared_run, trained_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "p.parquet"
    assert main([str(prepared_run), str(trained_data), "--out", str(out), *INT8, "--data.threads=1"]) == 0
    return out


@pytest.mark.parametrize(
    "options", [["--data.threads", "3"], ["--data.eval_batch_size=7"], ["--data.eval-batch-size=199"], ["--tta=false"]]
)
def test_bytes_do_not_depend_on_threads_and_chunks(prepared_run, trained_data, predicted, tmp_path, capsys, options):
    out = tmp_path / "p.parquet"
    assert predict_quickly([str(prepared_run), str(trained_data), "-o", str(out), *INT8, *options]) is None
    assert out.read_bytes() == predicted.read_bytes()
    shown = capsys.readouterr().out
    assert "backend openvino int8" in shown
    assert "200 rows" in shown


def test_lightnings_command_line_writes_the_same_bytes(prepared_run, trained_data, predicted, tmp_path):
    """An option that the quick way does not know leads there."""
    out = tmp_path / "p.parquet"
    words = [str(prepared_run), str(trained_data), "-o", str(out), *INT8, "--seed_everything=3"]
    assert understood(words) is None
    assert main(words) == 0
    assert out.read_bytes() == predicted.read_bytes()


def test_in_32_bits_the_probabilities_are_those_of_torch(prepared_run, trained_data, tmp_path):
    tables = []
    for backend in ("torch", "openvino", "onnxruntime"):
        out = tmp_path / f"{backend}.parquet"
        words = [
            str(prepared_run),
            str(trained_data),
            "-o",
            str(out),
            f"--backend={backend}",
            "--precision=fp32",
            "--tta",
        ]
        assert main(words) == 0
        tables.append(pq.read_table(out))
    for table in tables[1:]:
        assert table.schema.equals(tables[0].schema, check_metadata=True)
        assert table.column("class").equals(tables[0].column("class"))
        for name in ("p_MB231", "p_PBMC", "confidence"):
            np.testing.assert_allclose(table.column(name), tables[0].column(name), atol=1e-5)


def test_slow_packages_are_not_imported(prepared_run, trained_data, tmp_path):
    code = (
        "import sys\n"
        "from fastcell.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "names = 'torch', 'pytorch_lightning', 'jsonargparse', 'nncf', 'scipy.linalg', 'scipy.stats'\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    words = ["predict", str(prepared_run), str(trained_data), "--out", str(tmp_path / "p.csv"), *INT8]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_network_is_compiled_while_the_set_is_opened(prepared_run, trained_data, predicted, tmp_path, monkeypatch):
    compiled, seen = threading.Event(), []
    run, opening = OpenVinoNetwork.run, Manifest.open

    def noted(network, images, batch=None):
        answers = run(network, images, batch)
        compiled.set()
        return answers

    def waiting(*arguments):
        seen.append(compiled.wait(60))
        return opening(*arguments)

    monkeypatch.setattr(OpenVinoNetwork, "run", noted)
    monkeypatch.setattr(Manifest, "open", waiting)
    out = tmp_path / "p.parquet"
    assert predict_quickly([str(prepared_run), str(trained_data), "-o", str(out), *INT8]) is None
    assert seen[0] is True
    assert out.read_bytes() == predicted.read_bytes()


def test_an_error_of_the_network_is_told_once(prepared_run, trained_data, tmp_path, monkeypatch, capfd):
    def failing(network, images, batch=None):
        raise DataError("no memory for the network")

    monkeypatch.setattr(OpenVinoNetwork, "run", failing)
    with pytest.raises(DataError, match="no memory for the network"):
        predict_quickly([str(prepared_run), str(trained_data), "-o", str(tmp_path / "p.parquet"), *INT8])
    assert "no memory" not in capfd.readouterr().err


def test_words_that_are_understood():
    base = ["RUN", "DATA", "-o", "p.csv"]
    assert understood(base) == {"--ckpt_path": "RUN", "--data.path": "DATA", "--out": "p.csv"}
    assert understood(["--ckpt-path=RUN", "DATA", "--out=p.csv", "--tta"])["--tta"] == "true"
    assert understood(["DATA", "--ckpt_path", "RUN", "--out=p.csv", "--data.threads", "2"])["--data.path"] == "DATA"
    for words in (
        base[:2],
        ["RUN", "-o", "p.csv"],
        [*base, "MORE"],
        ["RUN", "DATA", "-o", "p.txt"],
        [*base, "--backend", "tensorflow"],
        [*base, "--backend"],
        [*base, "--trainer.devices=2"],
        [*base, "--data.threads=-1"],
        [*base, "--data.eval_batch_size=0"],
        [*base, "--unknown=1"],
        [*base, "--min_confidence=high"],
        [*base, "--accuracy"],
    ):
        assert understood(words) is None


@pytest.mark.parametrize("limit", ["--min_confidence=0.6", "--accuracy=0.3"])
def test_unsure_cells_are_those_of_lightnings_command_line(prepared_run, trained_data, tmp_path, capsys, limit):
    words, quick, slow = [str(prepared_run), str(trained_data)], tmp_path / "p.csv", tmp_path / "q.csv"
    assert predict_quickly([*words, "-o", str(quick), *INT8, *limit.split("=")]) is None
    shown = capsys.readouterr().out
    assert main([*words, "-o", str(slow), *INT8, limit, "--seed_everything=3"]) == 0
    assert quick.read_bytes() == slow.read_bytes()
    assert ("answers with a confidence of at least" in shown.partition("cells/s")[0]) == limit.startswith("--accuracy")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (["--min_confidence", "1.5"], "--min_confidence must be from 0 to 1"),
        (["--min_confidence=nan"], "--min_confidence must be from 0 to 1"),
        (["--accuracy=0"], "--accuracy must be above 0"),
        (["--accuracy=0.9", "--min-confidence=0.9"], "must not be given together"),
    ],
)
def test_limits_out_of_range_are_refused(prepared_run, trained_data, tmp_path, limit, message):
    with pytest.raises(ArgumentError, match=message):
        predict_quickly([str(prepared_run), str(trained_data), "-o", str(tmp_path / "p.csv"), *INT8, *limit])
    assert not list(tmp_path.iterdir())


def test_a_choice_of_torch_is_handed_on(prepared_run, trained_data, tmp_path, monkeypatch):
    words = [str(prepared_run), str(trained_data), "-o", str(tmp_path / "p.csv")]
    assert predict_quickly(words) == words
    monkeypatch.setattr(quick_predict, "resolve", lambda *_, **__: ("torch", "bf16"))
    assert predict_quickly([*words, "--backend=auto"])[-2:] == ["--backend=torch", "--precision=bf16"]
