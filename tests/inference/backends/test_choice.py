"""The record of the choice, when it holds, and what a user's words resolve to."""

import dataclasses
import subprocess
import sys

import pytest

from fastcell.errors import ArgumentError
from fastcell.inference.backends import choice as module
from fastcell.inference.backends.agreement import Agreement
from fastcell.inference.backends.choice import Choice, Compared, read_choice, resolve, write_choice
from fastcell.inference.backends.network_files import CHOICE_FILE, NetworkFiles

AGREEMENT = Agreement(1000, 999, 0.001, -0.004, 0.006, "cell", 0.01)
CHOICE = Choice(("openvino", "int8"), [Compared("openvino", "int8", 20.0, AGREEMENT), Compared("torch", "fp32", 70.0)])


@pytest.fixture
def files(prepared_files):
    yield prepared_files
    (prepared_files.folder / CHOICE_FILE).unlink(missing_ok=True)


def test_a_record_is_read_back(files):
    assert read_choice(files) is None
    write_choice(files, CHOICE)
    found = read_choice(files)
    assert (found.chosen, found.compared) == (CHOICE.chosen, CHOICE.compared)
    assert found.find("openvino", "int8").agreement == AGREEMENT
    assert found.find("openvino", "bf16") is None


@pytest.mark.parametrize("changed", ["versions", "cpu_features"])
def test_a_record_of_other_versions_or_of_another_processor_does_not_hold(files, monkeypatch, changed):
    write_choice(files, CHOICE)
    other = {"versions": {"openvino": "1.0"}, "cpu_features": ("amx_int8",)}[changed]
    monkeypatch.setattr(module, changed, lambda: other)
    assert read_choice(files) is None
    assert resolve(files.checkpoint, None) == ("torch", "fp32")


def test_a_record_of_other_weights_does_not_hold(files, monkeypatch):
    write_choice(files, CHOICE)
    monkeypatch.setattr(NetworkFiles, "checkpoint_hash", "0" * 32)
    assert read_choice(NetworkFiles(files.checkpoint)) is None


@pytest.mark.parametrize("text", ["", "[]", '{"origin": 1}'])
def test_a_damaged_record_counts_as_none(files, text):
    (files.folder / CHOICE_FILE).write_text(text)
    assert read_choice(files) is None


def test_what_a_user_says_resolves_to_a_backend(files):
    run = files.checkpoint
    assert resolve(run, None) == ("torch", "fp32")
    write_choice(files, CHOICE)
    assert resolve(run, None) == resolve(run, "auto") == resolve(run, "openvino") == ("openvino", "int8")
    assert resolve(run, "auto", "int8") == ("openvino", "int8")
    assert resolve(run, "torch") == ("torch", "fp32")
    assert resolve(run, "torch", "bf16") == resolve(run, None, "bf16") == ("torch", "bf16")
    assert resolve(run, "onnxruntime", "int8") == ("onnxruntime", "int8")
    with pytest.raises(ArgumentError, match="--precision must be fp32 or bf16 with --backend torch, got 'int8'"):
        resolve(run, "torch", "int8")


def test_a_choice_whose_files_are_damaged_is_not_taken(files):
    write_choice(files, CHOICE)
    path = files.folder / "openvino-int8.bin"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1])
        assert resolve(files.checkpoint, None) == ("torch", "fp32")
    finally:
        path.write_bytes(content)


def test_a_prepared_backend_needs_no_torch(files):
    code = (
        "import sys, numpy as np, fastcell\n"
        "cell = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)\n"
        "for words in (('openvino', 'int8'), ('onnxruntime', 'int8')):\n"
        "    found = fastcell.load(sys.argv[1], backend=words[0], precision=words[1]).predict(cell)\n"
        "    assert len(found) == 1 and found.answered.all()\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'nncf', 'nvidia') if name in sys.modules])\n"
    )
    run = str(files.checkpoint.parent)
    done = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_compared_backend_is_added_or_replaced():
    again = dataclasses.replace(CHOICE.compared[0], us_per_cell=10.0)
    found = CHOICE.with_compared(again)
    assert found.find("openvino", "int8").us_per_cell == 10.0
    assert len(found.compared) == 2
    assert again.title == "openvino int8"
