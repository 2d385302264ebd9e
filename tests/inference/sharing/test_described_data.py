"""What a card says of a data set, compared with its manifest."""

import numpy as np

from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.inference.sharing.described_data import describe_data
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.open_run import read_data_settings
from fastcell.runs.run_folder import find_checkpoint


def test_counts_and_version(trained_data, trained_run):
    manifest = Manifest.open(trained_data)
    state = read_checkpoint(find_checkpoint(trained_run))["CellDataModule"]
    found = describe_data(manifest, read_data_settings(trained_run), state)
    assert found.version == version_id(manifest)
    subsets = manifest.split()
    expected = [[int(((subsets == part) & (manifest.labels == label)).sum()) for part in ("train", "valid", "test")]
                for label in range(len(manifest.info.classes))]  # fmt: skip
    assert found.counts.tolist() == expected
    assert found.groups == [len(np.unique(manifest.groups[subsets == part])) for part in ("train", "valid", "test")]
    assert found.origin == f"simulated cells ({manifest.info.generator})"
    heights = manifest.column("height")
    assert f"height {heights.min()} to {heights.max()} px" in found.sizes
    assert found.is_that_of_training is True


def test_another_data_set_is_noticed(trained_data):
    manifest = Manifest.open(trained_data)
    assert describe_data(manifest, {}, {}).is_that_of_training is None
    assert describe_data(manifest, {}, {"training cells": "0" * 32}).is_that_of_training is False
    assert describe_data(manifest, {"split_name": "gone"}, {"training cells": "0" * 32}).is_that_of_training is False
    assert describe_data(manifest, {"subsample": "x"}, {"training cells": "0" * 32}).is_that_of_training is False
