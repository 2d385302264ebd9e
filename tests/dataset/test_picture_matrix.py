"""Pictures of every kind are read to the grey levels of an independent reader, or refused with the cause."""

import logging
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from fixtures.picture_matrix import damage, grey_of_tiff, hostile_directories, is_upright, outcome, pictures

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.tiff.contents import read_single
from fastcell.dataset.tiff.supported import READ_COMPRESSIONS
from fastcell.errors import BadCell


def read(data, channel=None):
    try:
        with DecoderMessages() as messages:
            grey = read_single(data, channel)[0] if data[:2] in (b"II", b"MM") else decode_levels(data)[0]
            messages.check(data)
    except BadCell as bad:
        return bad.reason
    return grey


def is_explained(picture, reason):
    """The reason names what is not read, which is never a plain file of a compression that is read."""
    container, kind, depth = picture.row
    if container != "TIFF" or (kind in READ_COMPRESSIONS.values() and kind not in ("none", "JPEG")):
        return False
    cause = depth.partition(" of ")[0].removesuffix(" bit") if kind == "none" else f"compression {kind}"
    return cause in reason or (kind == "JPEG" and reason == "12-bit tif, not 8 or 16")


def check_all(every):
    found = Counter()
    for picture in pictures(every):
        became = outcome(picture, read)
        assert became == "right" or is_explained(picture, became), f"{picture.row}, {picture.name}: {became}"
        found[became == "right"] += 1
    return found


def test_a_part_of_the_matrix():
    found = check_all(7)
    assert found[True] > 500
    assert found[False] > 100


@pytest.mark.parametrize("hits", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_directories_are_read_as_tifffile_reads_them_or_refused(hits):
    num_read = 0
    with quiet_tifffile():
        for data, channel in hostile_directories(hits):
            grey = read(data, channel)
            if isinstance(grey, str) or not is_upright(data):
                continue
            theirs, tolerance = grey_of_tiff(data, channel)
            assert grey.shape == theirs.shape
            assert np.abs(grey - theirs).max() <= tolerance
            num_read += 1
    assert hits / 20 < num_read < hits / 2


@contextmanager
def quiet_tifffile():
    log = logging.getLogger("tifffile")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@pytest.mark.slow
def test_the_whole_matrix():
    assert check_all(1).total() > 3500


@pytest.fixture(scope="module")
def damages():
    return list(damage(read, 60))


def test_hits_of_codecs_with_a_checksum_are_always_seen(damages):
    checked = [each for each in damages if each.codec in ("deflate", "stored deflate", "LZMA", "PNG")]
    assert len(checked) == 20
    assert [each for each in checked if each.wrong] == []


def test_hits_of_other_codecs_are_seen_where_they_change_the_length(damages):
    for each in damages:
        assert each.refused + each.right + each.wrong == each.hits == 60
        if each.codec == "LZW":
            assert each.refused > 15, each
        if each.codec == "none":
            assert each.refused == 0, each
