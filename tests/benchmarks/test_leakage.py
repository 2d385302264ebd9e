"""The result of the leakage study says what its tables say, order by order."""

import json
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def study(tmp_path):
    """A folder of the study: two orders, two classes, of which MB231 is rare."""
    schemes = {name: {"text": text} for name, text in (("augment-first", "leaky"), ("split-first", "honest"))}
    (tmp_path / "study.json").write_text(json.dumps({"schemes": schemes}))
    (tmp_path / "accuracy.csv").write_text(
        "scheme,method,part,accuracy,low,high,num_cells\n"
        "split-first,cnn,test,0.8,0.7,0.9,40\n"
        "augment-first,cnn,train,1,1,1,40\n"
        "augment-first,cnn,test,0.9,0.85,0.95,40\n"
    )
    (tmp_path / "differences.csv").write_text(
        'what,first,second,value,low,high\nprotocols,"CNN, augment-first","CNN, split-first",0.1,0.05,0.15\n'
    )
    (tmp_path / "classes.csv").write_text(
        "scheme,method,measure,class,value,low,high\n"
        "augment-first,cnn,recall,MB231,0.6,0.5,0.7\n"
        "augment-first,cnn,recall,MCF7,0.99,0.9,1\n"
        "split-first,cnn,recall,MB231,0.3,0.2,0.4\n"
        "split-first,cnn,precision,MB231,0.1,0,1\n"
    )
    return tmp_path


def test_rows_and_table(program, study):
    manifest = SimpleNamespace(labels=np.array([0, 1, 1]), info=SimpleNamespace(classes=["MB231", "MCF7"]))
    rows = program("leakage").read_protocols(study, "planted", manifest)
    leaky, honest = rows
    assert (leaky.method, leaky.protocol, leaky.invented) == ("CNN", "leaky", None)
    assert honest.protocol == "honest"
    assert honest.invented == {"value": 0.1, "low": 0.05, "high": 0.15}
    assert (leaky.rare_recall["value"], honest.rare_recall["value"], honest.num_images) == (0.6, 0.3, 40)
    lines = program("score_tables").leaks([vars(row) for row in rows])
    assert lines[3].split("|")[1:-1] == [
        f" {text} " for text in ("CNN", "planted", "honest", "0.800 (0.700..0.900)", "+0.100 (+0.050..+0.150)")
    ] + [" 0.300 (0.200..0.400) "]
    assert lines[-1] == "40 images; calling one class always is right for 0.500."
