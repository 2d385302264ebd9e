"""What the settings of a loader come to."""

import pytest
import torch

from fastcell.loading.settings import LoaderConfig


@pytest.mark.parametrize(
    ("decoder", "transform", "expected"),
    [
        ("auto", "auto", "auto"),
        ("auto", "fused", "auto"),
        ("auto", "dali", "dali"),
        ("threads", "dali", "threads"),
        ("dali", "fused", "dali"),
    ],
)
def test_dali_decodes_for_its_own_operators(decoder, transform, expected):
    assert LoaderConfig(decoder=decoder, transform=transform).reader_decoder == expected


@pytest.mark.parametrize(("device", "number"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_number_of_the_gpu(device, number):
    assert LoaderConfig(device=torch.device(device)).device_id == number
