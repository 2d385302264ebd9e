"""Classifying the cells of files: chunks, workers, packed data and lists of files."""

import numpy as np
import pytest
from fixtures.unpacked_files import (
    TOLERANCE,
    assert_equal_tables,
    cell,
    fixed_classifier,
    make_deep_folder,
    make_folder,
    write_png,
)

import fastcell
from fastcell.errors import ArgumentError
from fastcell.inference import source_cells
from fastcell.inference.classify_files import SourceAnswers, classify_packed, classify_source
from fastcell.inference.source_cells import open_cells
from fastcell.packing.pack import pack
from fastcell.sources.registry import ReadOptions
from fastcell.splits.make_splits import SplitOptions


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("fit", ["contain", "scale"])
def test_borders_pitches_and_16_bits(tmp_path, fit, depth):
    src = make_deep_folder(tmp_path / "src")
    packed = pack(
        src,
        tmp_path / "packed",
        pattern="{name}",
        window=(100, 3000),
        um_per_px=0.25,
        split=SplitOptions(shares=None),
        jobs=1,
    )
    one = fixed_classifier(fit=fit, depth=depth, window=(100, 3000), scale_um_per_px=0.15 if fit == "scale" else None)
    cells = open_cells(src, window=(100, 3000), um_per_px=0.25, depth=depth)
    answers = SourceAnswers(one.classes, cells, list(classify_source(one, cells))).collect()
    expected = classify_packed(one, packed.path)
    assert_equal_tables(answers.to_table(), expected.to_table())
    assert len(set(answers.probabilities[:, 0].tolist())) > 5


def test_chunks_and_workers_change_nothing(tmp_path, monkeypatch):
    src = make_folder(tmp_path / "src")
    read = ReadOptions(pattern="{group}/{class}/{name}")
    tables = []
    for size, piece, jobs in ((256, 256, 1), (4, 7, 1), (5, 8, 2)):
        monkeypatch.setattr(source_cells, "PIECE_CELLS", piece)
        one = fixed_classifier()
        one.chunk = size
        cells = open_cells(src, read=read)
        parts = list(classify_source(one, cells, jobs=jobs))
        assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]
        assert parts[-1].end == len(cells) == 46
        assert all(len(part.numbers) == size for part in parts[:-1])
        tables.append(SourceAnswers(one.classes, cells, parts).collect().to_table())
    for table in tables[1:]:
        assert table.equals(tables[0])


def test_lists_of_files_keep_their_order(trained_run, tmp_path):
    src = make_folder(tmp_path / "src")
    one = fastcell.load(trained_run, threads=1)
    paths = [src / "donor1/a/001.jpg", src / "donor1/a/cut.png", src / "donor0/b/000.png", tmp_path / "gone.png"]
    found = one.predict(paths)
    assert found.keys == [str(path) for path in paths]
    assert found.reasons == [None, "truncated", None, "cannot be read: No such file or directory"]
    assert found.labels[[1, 3]].tolist() == ["", ""]
    alone = one.predict(str(paths[2]))
    np.testing.assert_allclose(alone.probabilities[0], found.probabilities[2], atol=TOLERANCE)
    np.testing.assert_allclose(one.predict_proba(cell(0))[0], found.probabilities[2], atol=TOLERANCE)
    assert len(one.predict([str(paths[1])])) == 1


def test_what_is_not_for_these_files(trained_run, trained_data, tmp_path):
    make_deep_folder(tmp_path / "deep")
    write_png(tmp_path / "levels" / "a" / "b" / "1.png", 1)
    assert fastcell.load(trained_run).predict(tmp_path / "levels").keys == ["a/b/1.png"]
    one = fixed_classifier(window=(5, 9), depth=16)
    with pytest.raises(ArgumentError, match="window must be 5 to 9, as in training"):
        one.predict(tmp_path / "deep", window=(0, 9))
    with pytest.raises(ArgumentError, match="window must be left out for a packed data set"):
        one.predict(trained_data, window=(5, 9))
    with pytest.raises(ArgumentError, match="um_per_px must be one number for files"):
        one.predict(tmp_path / "deep", um_per_px=[1.0, 2.0])
