"""The faster decoder by a clock that tells what the test wants, and by a real one on both decoders."""

import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.stores import decoder_timing, stored_subsets
from fastcell.loading.stores.decoder_timing import SECONDS, DecoderTiming, faster_decoder, time_ways

Make = Callable[..., Manifest]


class FakeClock:
    """A clock that work moves on; looking at it takes no time."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def work(self, cells, *seconds):
        """A pass of some cells, which takes the given times one after another, the last one again and again."""
        spent = [*seconds]

        def run():
            self.now += spent.pop(0) if len(spent) > 1 else spent[0]
            return cells

        return run


def test_the_first_pass_is_not_timed_and_rates_are_by_the_clock():
    clock = FakeClock()
    ways = {"threads": clock.work(1000, 5.0, 0.2), "dali": clock.work(1000, 60.0, 0.05)}
    begin = clock()
    assert time_ways(ways, clock) == pytest.approx({"threads": 1000 / 0.2, "dali": 1000 / 0.05})
    assert clock() - begin == pytest.approx(5 + 3 * 0.2 + 60 + 10 * 0.05)  # half a second each, whole passes
    assert SECONDS == 0.5


@pytest.mark.parametrize(("slow", "faster"), [("threads", "dali"), ("dali", "threads")])
def test_the_faster_one_is_taken_and_said(make_dataset, monkeypatch, slow, faster):
    """Both decoders decode real JPEG; the clock makes one of them 8 times as slow."""
    clock, passes = FakeClock(), []
    make = decoder_timing.make_decoding

    def slowed(name, *options):
        decode = make(name, *options)

        def run(pieces):
            cells = list(decode(pieces))
            clock.now += 0.08 if name == slow else 0.01
            passes.append((name, sum(len(one) for one in cells)))
            return iter(cells)

        return run

    monkeypatch.setattr(decoder_timing, "make_decoding", slowed)
    monkeypatch.setattr(decoder_timing, "FEWEST_CELLS", 40)
    timing = faster_decoder(make_dataset(40, encoding="jpg"), 16, 2, torch.device("cpu"), clock)
    assert timing.choice == faster
    assert timing.rates == pytest.approx({faster: 4000.0, slow: 500.0})
    assert set(passes) == {("threads", 40), ("dali", 40)}
    rates = {"threads": "2 threads 500 cells/s", "dali": "DALI 500 cells/s"}
    rates[faster] = rates[faster].replace("500", "4,000")
    assert timing.describe() == f"decoder {faster}: {rates['threads']}, {rates['dali']}"


def test_few_cells_are_not_timed(make_dataset):
    timing = faster_decoder(make_dataset(12), 16, 1, torch.device("cpu"))
    assert timing == DecoderTiming("threads", {}, 1)
    assert timing.describe() == "decoder threads: fewer than 20,000 cells, not timed"


def test_a_corrupt_cell_of_the_sample_stops_nothing(make_dataset, monkeypatch):
    manifest = make_dataset(40, encoding="jpg")
    shard = manifest.path / manifest.info.shards[0]["name"]
    content = bytearray(shard.read_bytes())
    begin = int(manifest.column("offset")[3])
    content[begin : begin + 8] = b"damaged!"
    shard.write_bytes(content)
    monkeypatch.setattr(decoder_timing, "FEWEST_CELLS", 1)
    monkeypatch.setattr(decoder_timing, "SECONDS", 0.01)
    assert set(faster_decoder(manifest, 16, 1, torch.device("cpu")).rates) == {"threads", "dali"}


class OnGpu(CellDataModule):
    """Data whose loaders are told that they work for a GPU."""

    def loader_settings(self, trainer):
        settings = super().loader_settings(trainer)
        return SimpleNamespace(**{**vars(settings), "device": torch.device("cuda", 0), "device_id": 0})


def test_auto_on_a_gpu_times_once_and_a_resumed_run_does_not(make_dataset, monkeypatch, caplog):
    calls = []

    def timed(manifest, batch, threads, device):
        calls.append((batch, threads))
        return DecoderTiming("dali", {"threads": 1.0, "dali": 2.0}, threads)

    monkeypatch.setattr(stored_subsets, "faster_decoder", timed)
    monkeypatch.setattr(stored_subsets, "replace", lambda settings, **new: SimpleNamespace(**{**vars(settings), **new}))
    path = str(make_dataset(20, encoding="jpg").path)
    data = OnGpu(path, batch_size=8, threads=3)
    with caplog.at_level(logging.INFO, "fastcell"):
        assert [data._config().decoder, data._config().decoder] == ["dali", "dali"]
    assert calls == [(8, 3)]
    assert [record.getMessage() for record in caplog.records] == ["decoder dali: 3 threads 1 cells/s, DALI 2 cells/s"]
    assert OnGpu(path, decoder="threads")._config().decoder == "threads"
    assert OnGpu(path, transform="dali")._config().decoder == "dali"
    assert OnGpu(str(make_dataset(20, name="blocks", layout="block").path))._config().decoder == "threads"
    assert CellDataModule(path)._config().decoder == "auto"
    again = OnGpu(path, batch_size=8, threads=3)
    monkeypatch.setattr(again, "check_state", lambda state: None)
    again.load_state_dict({"decoder": "threads"})
    assert again._config().decoder == "threads"
    assert calls == [(8, 3)]
