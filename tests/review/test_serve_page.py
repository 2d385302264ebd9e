"""What the page begins with."""

import getpass

import pytest

from fastcell.errors import ArgumentError, FastcellError
from fastcell.review.serve_page import first_query, this_person


def test_first_query(planted, tmp_path):
    data = planted(20)
    assert first_query(None, data) == {"terms": [], "sort": ""}
    assert first_query("class=left", data)["terms"] == [{"column": "class", "is": ["left"]}]
    table = tmp_path / "cells.csv"
    table.write_text("cell_id,verdict\n4,keep\n9,drop\n5,keep\n")
    assert first_query(str(table), data) == {"terms": [{"cells": "4-5,9"}], "sort": ""}
    table.write_text("key\ncell-0003.npy\n")
    assert first_query(str(table), data)["terms"] == [{"cells": "3"}]
    table.write_text("cell_id\n40\n")
    with pytest.raises(FastcellError, match="40"):
        first_query(str(table), data)
    with pytest.raises(ArgumentError, match="Check the path"):
        first_query(str(tmp_path / "nothing.csv"), data)


def test_this_person(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    assert this_person() == "anna"
    for name in ("", "a\nb"):
        monkeypatch.setattr(getpass, "getuser", lambda name=name: name)
        assert this_person() == "somebody"

    def nobody():
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert this_person().startswith("user ")
