import time

from fastcell.dataset.manifest import Manifest
from fastcell.remote.fetch_ahead import ShardsAhead


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def cached(manifest):
    assert manifest.remote is not None
    return sorted(path.name for path in (manifest.remote.cache.folder / "objects").rglob("*.tar"))


def test_next_shards_are_downloaded_up_to_a_quarter_of_the_cache(served, tmp_path, web_store):
    from fastcell.remote.object_cache import ObjectCache

    sizes = [path.stat().st_size for path in sorted((web_store.folder / "cells").glob("*.tar"))]
    opened = Manifest.open(served, ObjectCache(tmp_path / "c", 4 * (sizes[0] + sizes[1] - 1)))
    shards = [(shard["name"], shard["bytes"]) for shard in opened.info.shards]
    assert opened.remote is not None
    with ShardsAhead(opened.remote, iter(shards)) as ahead:
        ahead.reached([])
        wait_until(lambda: cached(opened) == ["shard-000000.tar", "shard-000001.tar"])
        ahead.reached(["shard-000000.tar"])
        wait_until(lambda: cached(opened) == [f"shard-00000{number}.tar" for number in range(3)])


def test_failures_are_left_to_the_reader_and_a_stop_ends_downloads(opened, web_store):
    assert opened.remote is not None
    (web_store.folder / "cells" / "shard-000001.tar").unlink()
    names = [("shard-000001.tar", 1), ("shard-000002.tar", 1)]
    with ShardsAhead(opened.remote, iter(names)) as ahead:
        ahead.reached([])
        wait_until(lambda: cached(opened) == ["shard-000002.tar"])
    web_store.faults.bytes_per_s = 100.0
    with ShardsAhead(opened.remote, iter([("shard-000003.tar", 1)])) as ahead:
        ahead.reached([])
    assert cached(opened) == ["shard-000002.tar"]
