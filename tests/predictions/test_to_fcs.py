"""What is written is what flowio reads, and what flowio reads of a file by fcswrite."""

import json

import fcswrite
import flowio
import numpy as np
import pytest

from fastcell.predictions import to_fcs

AWKWARD = ["class", "p_A, B", "p_µ|/\\", "P_CLASS", "Class", "a\nb", "  ", ""]


def make_columns(num_events, names=AWKWARD, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(100, 1e4, num_events).astype(np.float32) for name in names}


@pytest.mark.parametrize("num_events", [0, 1, 1_000, to_fcs._CHUNK_ROWS + 3])
def test_flowio_reads_every_value(tmp_path, num_events):
    columns = make_columns(num_events)
    to_fcs.write_fcs(tmp_path / "a.fcs", columns, keywords={"FASTCELL_CLASSES": '["A, B", "µ|/\\\\"]'})
    read = flowio.FlowData(tmp_path / "a.fcs")
    assert (read.version, read.event_count, read.channel_count) == ("3.1", num_events, len(columns))
    values = np.asarray(read.events, np.float32).reshape(-1, len(columns))
    np.testing.assert_array_equal(values, np.stack(list(columns.values()), axis=1))
    assert json.loads(read.text["fastcell_classes"]) == ["A, B", "µ|/\\"]
    assert (read.text["datatype"], read.text["mode"], read.text["byteord"]) == ("F", "L", "1,2,3,4")
    assert {read.text[f"p{number}e"] for number in range(1, len(columns) + 1)} == {"0,0"}


def test_same_values_as_another_writer(tmp_path):
    columns = make_columns(500, ["class", "area", "deform"])
    to_fcs.write_fcs(tmp_path / "ours.fcs", columns)
    table = np.stack(list(columns.values()), axis=1)
    plain = {"compat_chn_names": False, "compat_negative": False, "compat_percent": False, "compat_max_int16": 0}
    fcswrite.write_fcs(tmp_path / "theirs.fcs", list(columns), table, **plain)
    ours, theirs = (flowio.FlowData(tmp_path / f"{name}.fcs") for name in ("ours", "theirs"))
    assert ours.pnn_labels == theirs.pnn_labels
    np.testing.assert_array_equal(ours.as_array(preprocess=False), theirs.as_array(preprocess=False))


def test_names_are_legal_and_unique(tmp_path):
    names = to_fcs.short_names(AWKWARD)
    assert names == ["class", "p_A; B", "p_µ|/\\", "P_CLASS", "Class_2", "a b", "parameter", "parameter_2"]
    assert to_fcs.write_fcs(tmp_path / "a.fcs", make_columns(2)) == names
    read = flowio.FlowData(tmp_path / "a.fcs")
    assert read.pnn_labels == names
    assert read.pns_labels[1] == "p_A, B"


def test_ranges_are_whole_numbers_that_hold_the_values(tmp_path):
    columns = {
        "p": np.array([0.0, 0.25], np.float32),
        "area": np.array([3.5, 117.2], np.float32),
        "same": np.array([-5.0, -5.0], np.float32),
    }
    to_fcs.write_fcs(tmp_path / "a.fcs", columns, {"p": (0.0, 1.0)})
    text = flowio.FlowData(tmp_path / "a.fcs").text
    assert [text[f"p{number}r"] for number in (1, 2, 3)] == ["1", "118", "1"]
    assert [text[f"p{number}d"] for number in (1, 2, 3)] == ["Linear,0,1", "Linear,3.5,117.199997", "Linear,-5,-4"]


def test_a_place_beyond_eight_digits_is_in_the_text_alone():
    head, segment = to_fcs._segments({"$PAR": "1"}, 4 * 10**9)
    assert head[26:42].split() == [b"0", b"0"]
    entries = segment.decode().strip("\f").split("\f")
    text = dict(zip(entries[::2], entries[1::2], strict=True))
    begin = 256 + len(segment)
    assert (text["$BEGINDATA"], text["$ENDDATA"]) == (str(begin), str(begin + 4 * 10**9 - 1))
    assert int(head[10:18]) == 256
    assert int(head[18:26]) == begin - 1
