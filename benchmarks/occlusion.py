"""Occlusion maps: covered images through the network whole, beside computing only what the covered square changes.

Both make the maps of `fastcell explain`, 32 x 32 places of an image, in turns in one run. The rate is in maps per
second; 100 maps are what the command draws.

    python benchmarks/occlusion.py [--network cellnet] [--size 128] [--threads 2] [--rounds 5]
"""

import argparse

from fastcell.system import library_settings, resources

library_settings.limit_spinning()

import torch
from harness import Result, print_rows, time_turns

from fastcell.explain.occlusion import POSITIONS, occlusion_maps
from fastcell.models.registry import create_network

WHOLE = "covered images whole"


def main():
    """Run the benchmark, print its table and write its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cellnet", help="cellnet, cellnet-wide or gao (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the images (%(default)s)")
    parser.add_argument("--threads", type=int, default=resources.num_cpus(), help="of torch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (%(default)s)")
    options = parser.parse_args()
    library_settings.raise_malloc_thresholds()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if resources.has_gpu() else "cpu")
    torch.manual_seed(0)
    network = create_network(options.network, 4, options.size).to(device, memory_format=torch.channels_last)
    contestants = {
        WHOLE: ("batches of 256, channels last", maps(network, options.size, device, 1, by_parts=False)),
        "only what changes": ("windows around the square", maps(network, options.size, device, 4, by_parts=True)),
    }
    rows = time_turns(contestants, options.rounds).rows(WHOLE)
    print_rows(rows, WHOLE)
    settings = {
        "network": options.network,
        "size": options.size,
        "places": POSITIONS**2,
        "threads": options.threads,
    }
    print(f"wrote {Result('occlusion', 'white noise', settings, rows).save()}")


def maps(network, size, device, num, by_parts):
    """Make the maps of `num` images."""
    images = torch.rand(num, 1, size, size, device=device) * 2
    labels = torch.zeros(num, dtype=torch.int64, device=device)

    def work():
        occlusion_maps(network, images, labels, by_parts=by_parts)  # ends on the CPU: the device is waited for
        return num

    return work


if __name__ == "__main__":
    main()
