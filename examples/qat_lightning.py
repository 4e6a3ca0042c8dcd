"""The training of qat_plain.py with Lightning: a prepared model is a module like any other.

pip install lightning
python examples/qat_lightning.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning
import torch
from qat_plain import accuracy, digits, network, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fewbit.torch


class Classifier(lightning.LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-3)


def main(folder: Path) -> None:
    lightning.seed_everything(0)
    images, labels, held_images, held_labels = digits()
    model = network()
    train(model, images, labels, epochs=12, rate=3e-3)
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    classifier = Classifier(fewbit.torch.prepare(model, images[:2], data=loader, limit=128))
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(classifier, loader)
    trainer.save_checkpoint(folder / "trained.ckpt")
    fewbit.torch.export(classifier.eval(), folder / "int8.onnx")
    print(f"int8 after training: {accuracy(folder / 'int8.onnx', held_images, held_labels):.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
