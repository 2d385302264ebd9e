"""Train a network of your own in a plain loop: fastcell loads, decodes, augments and normalises; the rest is torch.

fastcell synth cells
python examples/plain_loop.py cells
"""

import argparse

import torch
from torch import nn
from torch.nn import functional

from fastcell import CellDataModule


def build(num_classes: int) -> nn.Module:
    """Return a small network for images (B, 1, S, S)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


def train(data: CellDataModule, epochs: int) -> tuple[nn.Module, float]:
    """Return the network and its accuracy on the validation subset."""
    network = build(data.num_classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    loader = data.train_dataloader()
    for _ in range(epochs):  # each pass over the loader is the next epoch
        network.train()
        for batch in loader:
            optimizer.zero_grad()
            functional.cross_entropy(network(batch.images), batch.labels).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        right = [network(batch.images).argmax(1) == batch.labels for batch in data.val_dataloader()]
    return network, torch.cat(right).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="packed data set")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    _, accuracy = train(CellDataModule(options.data, batch_size=64, image_size=64), options.epochs)
    print(f"validation accuracy {accuracy:.3f}")
