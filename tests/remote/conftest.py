"""Servers of data sets, and small data sets on them."""

import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.remote.object_cache import ObjectCache


@pytest.fixture(scope="session")
def shards_on_disk(tmp_path_factory):
    """Folder of 60 simulated cells in 6 shards."""
    from fastcell.simulator.synth import synthesize

    path = tmp_path_factory.mktemp("remote") / "cells"
    synthesize(path, 60, seed=0, shard_cells=10, jobs=1)
    return path


@pytest.fixture
def served(shards_on_disk, web_store):
    """Address of a copy of `shards_on_disk` on a web server."""
    import shutil

    shutil.copytree(shards_on_disk, web_store.folder / "cells")
    return f"{web_store.url}/cells"


@pytest.fixture
def cache(tmp_path):
    """An empty cache of 1 GiB."""
    return ObjectCache(tmp_path / "objects-here", 1 << 30)


@pytest.fixture
def opened(served, cache):
    """The data set on the web server."""
    return Manifest.open(served, cache)
