"""Hashes of stored bytes and pixels, mean and border of a cell: values computed another way."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from fastcell.dataset.cell_hashes import hash_pixels, hashes_of, version_id, wrong_bytes
from fastcell.dataset.shard_reader import ShardFiles, Stored


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@settings(max_examples=100)
def test_pixel_hash_is_of_sides_and_pixels(pixels):
    content = struct.pack("<ii", *pixels.shape) + pixels.tobytes()
    assert hash_pixels(pixels) == hashlib.blake2b(content, digest_size=16).digest()


def test_hashes_of_a_part_of_a_table(make_dataset):
    """Of a slice and of several chunks, as a filtered or joined table has them."""
    manifest = make_dataset(12)
    whole = hashes_of(manifest)
    table = manifest.table

    class Part:
        def __init__(self, table):
            self.table = table

    np.testing.assert_array_equal(hashes_of(Part(table.slice(3, 5))), whole[3:8])
    np.testing.assert_array_equal(hashes_of(Part(table.slice(0, 0))), whole[:0])


def stored_cells(manifest, cell_ids):
    return ShardFiles(manifest, {}).read(np.array(cell_ids))


@pytest.mark.parametrize("encoding", ["png", "npy"])
def test_hashes_of_the_manifest_are_those_of_the_stored_bytes(make_dataset, encoding):
    manifest = make_dataset(20, encoding=encoding)
    hashes = hashes_of(manifest)
    assert hashes.shape == (20, 16)
    stored = stored_cells(manifest, range(20))
    for place in range(20):
        digest = hashlib.blake2b(stored.bytes_of(place).tobytes(), digest_size=16).digest()
        assert hashes[place].tobytes() == digest
    assert not wrong_bytes(hashes, stored, np.arange(20)).any()


def test_changed_bytes_are_named(make_dataset):
    manifest = make_dataset(20)
    stored = stored_cells(manifest, [3, 7, 9])
    stored.buffer[stored.starts[1]] ^= 1
    hashes = hashes_of(manifest)
    assert wrong_bytes(hashes, stored, np.arange(3)).tolist() == [False, True, False]
    assert wrong_bytes(hashes, stored, np.array([1])).tolist() == [True]


def test_the_version_id_is_of_cells_and_labels_not_of_their_order(make_dataset):
    manifest = make_dataset(30)
    one = version_id(manifest)
    assert len(one) == 12
    table = manifest.table
    assert version_id(replace(manifest, table=table.take(pa.array(range(29, -1, -1))))) == one
    for name in ("key", "class", "group"):
        values = table.column(name).to_pylist()
        values[3] = "other"
        changed = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
        assert version_id(replace(manifest, table=changed)) != one
    assert version_id(replace(manifest, table=table.slice(1))) != one


def test_threads_that_share_the_hashing_find_the_same_cells():
    rng = np.random.default_rng(0)
    buffer = rng.integers(0, 256, 40 * 20_000).astype(np.uint8)
    starts = np.arange(40) * 20_000
    stored = Stored(np.arange(40), buffer, starts, np.full(40, 20_000), {})
    digests = [hashlib.blake2b(stored.bytes_of(place).tobytes(), digest_size=16).digest() for place in range(40)]
    hashes = np.frombuffer(b"".join(digests), np.uint8).reshape(40, 16)
    buffer[starts[[3, 17, 39]]] ^= 1
    places = np.array([39, 3, 5, 17, *range(20, 38)])
    for threads in (1, 2, 3, 64):
        found = wrong_bytes(hashes, stored, places, threads)
        assert places[found].tolist() == [39, 3, 17]
