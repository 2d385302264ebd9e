"""Put the loader into a Lightning project of your own: your module, your trainer, cells of a packed data set.

fastcell synth cells
python examples/own_lightning_project.py cells
"""

import argparse

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from fastcell import Batch, CellDataModule


class OwnModule(pl.LightningModule):
    """A module that knows nothing of fastcell but the names of a batch.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        pool = nn.AdaptiveAvgPool2d(4)
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), pool, nn.Flatten(), nn.Linear(256, num_classes)
        )
        self.accuracy = MulticlassAccuracy(num_classes, average="micro", ignore_index=-1)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch; on several processes it is padded by cells of weight 0."""
        losses = functional.cross_entropy(self.network(batch.images), batch.labels.clamp(min=0), reduction="none")
        return (losses * batch.weight).sum() / batch.weight.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count right answers; padding has the label -1."""
        self.accuracy.update(self.network(batch.images), batch.labels)
        self.log("accuracy", self.accuracy, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def train(path: str, epochs: int, **settings: object) -> float:
    """Return the accuracy on the validation subset."""
    data = CellDataModule(path, batch_size=64, image_size=64, **settings)
    module = OwnModule(data.num_classes)
    trainer = pl.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, enable_model_summary=False)
    trainer.fit(module, datamodule=data)
    return float(trainer.callback_metrics["accuracy"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="packed data set")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    print(f"validation accuracy {train(options.data, options.epochs):.3f}")
