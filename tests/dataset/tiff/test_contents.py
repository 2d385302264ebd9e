"""Images, axes and channels of a TIFF, and the one channel that is asked for."""

import io
import pickle

import numpy as np
import pytest
import tifffile

from fastcell.dataset.tiff.contents import NeedsChannel, choose_images, load_image, read_contents, read_single
from fastcell.dataset.tiff.open_tiff import OpenTiff
from fastcell.errors import BadCell

RNG = np.random.default_rng(0)


def planes(num, dtype):
    return RNG.integers(0, np.iinfo(dtype).max, (num, 21, 34)).astype(dtype)


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"metadata": None, **options})
    return file.getvalue()


def images(data, channel=None):
    file = OpenTiff(data)
    return [load_image(file, place) for place in choose_images(read_contents(file, 1000), channel)]


@pytest.mark.parametrize("num", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("config", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_samples_of_a_pixel(num, dtype, config, compression, tile):
    channels = planes(num, dtype)
    stored = np.moveaxis(channels, 0, 2).copy() if config == "contig" else channels
    data = tiff(stored, photometric="minisblack", planarconfig=config, compression=compression, tile=tile)
    with pytest.raises(NeedsChannel, match=f"tif with {num} channels in each pixel"):
        read_single(data)
    for channel in range(num):
        np.testing.assert_array_equal(read_single(data, channel)[0], channels[channel])
        np.testing.assert_array_equal(images(data, channel)[0], channels[channel])
    for wrong in (-1, num):
        with pytest.raises(BadCell, match=f"tif without a channel {wrong}: it has {num}, from 0"):
            read_single(data, wrong)


@pytest.mark.parametrize("config", ["contig", "separate"])
def test_names_of_ome_for_samples(config):
    channels = planes(3, np.uint16)
    contig = config == "contig"
    data = tiff(
        np.moveaxis(channels, 0, 2).copy() if contig else channels,
        photometric="minisblack",
        planarconfig=config,
        ome=True,
        metadata={"axes": "YXS" if contig else "SYX", "Channel": {"Name": "all"}},
    )
    with pytest.raises(NeedsChannel):
        read_single(data)
    np.testing.assert_array_equal(read_single(data, 2)[0], channels[2])


@pytest.mark.parametrize(("axes", "shape"), [("CYX", (3,)), ("TCYX", (4, 3)), ("CTYX", (3, 4)), ("TZCYX", (2, 2, 3))])
def test_channels_along_the_pages(axes, shape):
    pixels = planes(int(np.prod(shape)), np.uint16).reshape(*shape, 21, 34)
    names = ["DAPI", "GFP", "bright field"]
    data = tiff(pixels, photometric="minisblack", ome=True, metadata={"axes": axes, "Channel": {"Name": names}})
    with pytest.raises(NeedsChannel) as caught:
        images(data)
    assert (caught.value.num_channels, caught.value.names) == (3, tuple(names))
    for number, name in enumerate(names):
        expected = np.take(pixels, number, axes.index("C")).reshape(-1, 21, 34)
        for channel in (number, name):
            np.testing.assert_array_equal(images(data, channel), expected)
    with pytest.raises(BadCell, match="tif without a channel 'RFP': it has DAPI, GFP, bright field"):
        images(data, "RFP")


@pytest.mark.parametrize("imagej", [True, False])
def test_channels_of_imagej_and_tifffile(imagej):
    pixels = planes(6, np.uint16).reshape(3, 2, 21, 34)
    data = tiff(pixels, photometric="minisblack", imagej=imagej, metadata={"axes": "TCYX"})
    np.testing.assert_array_equal(images(data, 1), pixels[:, 1])
    with pytest.raises(NeedsChannel, match="2 channels in its pages"):
        images(data)


def test_interrupted_recordings_have_fewer_images():
    pixels = planes(6, np.uint8)
    text = tifffile.OmeXml()
    text.addimage("uint8", (5, 2, 21, 34), (10, 1, 1, 21, 34, 1), axes="TCYX")
    data = tiff(pixels[:5], photometric="minisblack", description=text.tostring())
    np.testing.assert_array_equal(images(data, 1), pixels[[1, 3]])
    text = tifffile.OmeXml()
    text.addimage("uint8", (2, 5, 21, 34), (10, 1, 1, 21, 34, 1), axes="CTYX")
    with pytest.raises(BadCell, match="2 channels whose axes do not fit its 5 images"):
        images(tiff(pixels[:5], photometric="minisblack", description=text.tostring()), 1)


def test_pages_of_one_cell_are_its_channels():
    pixels = planes(4, np.uint16)
    for options in ({"metadata": None}, {"metadata": {"axes": "CYX"}}):
        data = tiff(pixels, photometric="minisblack", **options)
        with pytest.raises(NeedsChannel, match="tif with 4 channels in its pages"):
            read_single(data)
        for channel in range(4):
            np.testing.assert_array_equal(read_single(data, channel)[0], pixels[channel])
    np.testing.assert_array_equal(images(tiff(pixels, photometric="minisblack")), pixels)
    with pytest.raises(BadCell, match="tif of 2 images, not of one cell"):
        read_single(tiff(pixels.reshape(2, 2, 21, 34), photometric="minisblack", metadata={"axes": "TCYX"}), 0)


def test_colours_are_one_channel_of_which_a_sample_can_be_chosen():
    colour = np.moveaxis(planes(3, np.uint8), 0, 2).copy()
    data = tiff(colour, photometric="rgb")
    assert read_single(data)[0].shape == (21, 34)
    np.testing.assert_array_equal(read_single(data, 1)[0], colour[:, :, 1])
    grey = tiff(colour[:, :, 0])
    np.testing.assert_array_equal(read_single(grey, 0)[0], colour[:, :, 0])
    with pytest.raises(BadCell, match="tif without a channel 1: it has 1, from 0"):
        read_single(grey, 1)


def test_smaller_copies_are_no_images_unless_there_is_nothing_else():
    large, small = planes(1, np.uint8)[0], planes(1, np.uint8)[0, ::2, ::2]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(large, metadata=None)
        writer.write(small, subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_single(file.getvalue())[0], large)
    np.testing.assert_array_equal(read_single(tiff(small, subfiletype=1))[0], small)


def test_too_many_pages():
    file = OpenTiff(tiff(planes(9, np.uint8), photometric="minisblack"))
    with pytest.raises(BadCell, match="too large: more than 8 pages"):
        read_contents(file, 8)


def test_the_error_can_be_sent_between_processes():
    again = pickle.loads(pickle.dumps(NeedsChannel(2, ("a", "b"), "each pixel")))
    assert (again.num_channels, again.names, again.what) == (2, ("a", "b"), "each pixel")
    assert again.reason == "tif with 2 channels in each pixel (a, b), and no channel is chosen"
