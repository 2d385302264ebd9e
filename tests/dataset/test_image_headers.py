"""Claims of headers: what NumPy writes is parsed as NumPy would, and what is no header is refused with its reason."""

import io

import cv2
import numpy as np
import pytest

from fastcell.dataset.image_headers import ImageHeader, parse_npy_header, peek_jpg, peek_png, sniff
from fastcell.errors import BadCell


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "|u1", "<f8", "|b1", "<U7"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 3, 4)])
def test_npy_headers_are_those_of_numpy(version, dtype, shape):
    for order in "CF":
        array = np.zeros(shape, dtype, order=order)
        data = npy(array, version)
        header = parse_npy_header(data)
        assert (header.dtype, header.shape, header.num_bytes) == (array.dtype, shape, array.nbytes)
        assert len(data) - header.start == array.nbytes
        assert header.fortran == (array.flags.f_contiguous and not array.flags.c_contiguous)


def test_npy_headers_that_are_cut_or_no_literal():
    data = npy(np.zeros((4, 5), np.uint8))
    for end in (6, 9, 11, 60, 127):
        with pytest.raises(BadCell, match=r"^truncated$"):
            parse_npy_header(data[:end])
    for wrong in (
        data.replace(b"False", b"exit()"),
        data.replace(b"(4, 5)", b"(4,-5)"),
        data.replace(b"descr", b"other"),
    ):
        with pytest.raises(BadCell, match=r"^damaged npy header$"):
            parse_npy_header(wrong)


def test_types_that_are_none_have_no_dtype():
    header = parse_npy_header(npy(np.zeros(3, np.uint8)).replace(b"|u1", b"|q9"))
    assert header.descr == "|q9"
    with pytest.raises(TypeError):
        header.dtype  # noqa: B018


@pytest.mark.parametrize(("shape", "channels"), [((7, 11), 1), ((7, 11, 3), 3)])
def test_sizes_of_jpeg_and_png(shape, channels):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for extension, peek in (("jpg", peek_jpg), ("png", peek_png)):
        data = cv2.imencode(f".{extension}", pixels)[1].tobytes()
        assert sniff(data) == extension
        assert peek(data) == ImageHeader(7, 11, channels)
        with pytest.raises(BadCell, match="truncated"):
            peek(data[:-20])


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty file"), (bytes(100), "all bytes zero"), (b"GIF89a", "not an image")]
)
def test_files_that_are_no_image(data, reason):
    with pytest.raises(BadCell) as caught:
        sniff(data)
    assert caught.value.reason == reason
