"""normalize on a GPU: the values of the CPU twin, every entry, streams, graph capture."""

import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.ops.constants import MODES
from fastcell.ops.normalize import _normalize, normalize

pytestmark = pytest.mark.gpu
DTYPES = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # relative: rounding to the type


def batch(count, height, width, dtype):
    images = torch.randint(0, 256, (count, 1, height, width), generator=torch.Generator().manual_seed(1))
    return images.to(dtype) if dtype == torch.uint8 else images + torch.rand(images.shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (18, 18), (64, 64), (67, 101), (128, 128), (700, 300)])
@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_agrees_with_the_twin(count, size, dtype, out_dtype, mode):
    images = batch(count, *size, dtype)
    want = normalize(images, mode).flatten(1)
    got = normalize(images.cuda(), mode, out_dtype).float().cpu().flatten(1)
    if count:
        scale = want.abs().amax(1, keepdim=True)
        assert ((got - want).abs() <= DTYPES[out_dtype] * scale + 1e-30).all()


def test_unaligned_images_and_in_place():
    memory = torch.randint(0, 256, (128 * 128 + 1,), dtype=torch.uint8, device="cuda")
    shifted = memory[1:].view(1, 1, 128, 128)
    torch.testing.assert_close(normalize(shifted).cpu(), normalize(shifted.cpu().clone()), rtol=1e-5, atol=1e-5)
    images = batch(9, 128, 128, torch.float32).cuda()
    want = normalize(images, "standardize")
    normalize(images, "standardize", out=images)
    assert torch.equal(images, want)


def test_launches_on_the_current_stream():
    """The input is ready only after a long wait on the same stream."""
    images = batch(64, 128, 128, torch.uint8).cuda()
    normalize(images)
    want = normalize(torch.full_like(images, 9), "subtract")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        images.fill_(9)
        got = normalize(images, "subtract")
    stream.synchronize()
    assert torch.equal(got, want)


def test_graph_capture_replays_on_new_pixels():
    images, out = batch(8, 128, 128, torch.uint8).cuda(), torch.empty(8, 1, 128, 128, device="cuda")
    normalize(images, out=out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        normalize(images, out=out)
    images.copy_(batch(8, 128, 128, torch.uint8).flip(0).cuda())
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(out.cpu(), normalize(images.cpu()), rtol=1e-5, atol=1e-5)


def test_contract_and_device_errors():
    images = batch(2, 16, 16, torch.uint8).cuda()
    torch.library.opcheck(_normalize, (images, 2, torch.float16, 1e-6))
    with pytest.raises(ArgumentError, match="out must be of shape"):
        normalize(images, out=torch.empty(2, 1, 16, 16))
