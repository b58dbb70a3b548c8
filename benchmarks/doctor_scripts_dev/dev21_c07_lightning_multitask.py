"""Color and kind of a shape, told by two heads; the weights of the two losses are learned (Kendall et al., 2018)."""

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Shapes


class ShapesData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    @staticmethod
    def transform(image):
        return (image - 0.5) / 0.2

    @staticmethod
    def collate(batch):
        images = torch.stack([image for image, _ in batch])
        names = torch.tensor([target for _, target in batch])
        # the six names go: red square, red disc, red cross, blue square, blue disc, blue cross
        return {"image": images, "color": names // 3, "kind": names % 3}

    def setup(self, stage=None):
        self.train_set = Shapes(train=True, count=2400, transform=self.transform)
        self.val_set = Shapes(train=False, count=480, transform=self.transform)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self):
        return DataLoader(self.val_set, 120, collate_fn=self.collate)


def conv(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class MultiTask(L.LightningModule):
    def __init__(self, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.trunk = nn.Sequential(
            conv(3, 24, 1), conv(24, 48, 2), conv(48, 48, 1), conv(48, 96, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.heads = nn.ModuleDict({"color": nn.Linear(96, 2), "kind": nn.Linear(96, 3)})
        self.log_vars = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in self.heads})
        self.hits, self.count = {"color": 0, "kind": 0, "both": 0}, 0
        self.losses = []

    def forward(self, image):
        features = self.trunk(image)
        return {task: head(features) for task, head in self.heads.items()}

    def training_step(self, batch, batch_idx):
        outputs = self(batch["image"])
        total = 0.0
        for task, logits in outputs.items():
            s = self.log_vars[task]
            total = total + torch.exp(-s) * F.cross_entropy(logits, batch[task]) + 0.5 * s
        self.losses.append(total.detach())
        return total

    def on_validation_epoch_start(self):
        self.hits, self.count = {"color": 0, "kind": 0, "both": 0}, 0

    def validation_step(self, batch, batch_idx):
        outputs = self(batch["image"])
        right = {task: logits.argmax(1) == batch[task] for task, logits in outputs.items()}
        right["both"] = right["color"] & right["kind"]
        for name, hit in right.items():
            self.hits[name] += int(hit.sum())
        self.count += len(batch["image"])

    def on_validation_epoch_end(self):
        shares = {name: hits / self.count for name, hits in self.hits.items()}
        loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        print(
            f"epoch {self.current_epoch}: train loss {loss:.3f}  color {shares['color']:.3f}  "
            f"kind {shares['kind']:.3f}  both {shares['both']:.3f}"
        )

    def configure_optimizers(self):
        # the two log variances are not decayed
        networks = [*self.trunk.parameters(), *self.heads.parameters()]
        groups = [
            {"params": networks, "weight_decay": 0.01},
            {"params": list(self.log_vars.parameters()), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


if __name__ == "__main__":
    L.seed_everything(5)
    trainer = L.Trainer(
        max_epochs=16,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=5.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(MultiTask(), datamodule=ShapesData())
