"""Lightning: three heads on one trunk (color, kind, box), losses weighed by learned uncertainties (Kendall et al. 2018)."""

import logging
import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from toydata import NAMES, Shapes

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
KINDS, COLORS = ["square", "disc", "cross"], ["red", "blue"]


class MultiTaskShapes(Dataset):
    def __init__(self, train, count):
        self.base, self.train = Shapes(train=train, count=count, size=20), train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        image, box = self.base.images[i].clone(), self.base.boxes[i].clone()
        color, kind = NAMES[self.base.targets[i]].split()
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        return (image - 0.5) / 0.2, {"color": COLORS.index(color), "kind": KINDS.index(kind), "box": box}


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set, self.val_set = MultiTaskShapes(True, 1600), MultiTaskShapes(False, 400)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 200)


class MultiTaskModel(L.LightningModule):
    def __init__(self, lr=3e-3, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        chans = (3, 16, 32, 48)
        layers = []
        for cin, cout in zip(chans, chans[1:]):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 9, 96), nn.ReLU())
        self.heads = nn.ModuleDict({"color": nn.Linear(96, 2), "kind": nn.Linear(96, 3), "box": nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 4))})
        self.log_vars = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in self.heads})
        self.accuracy = nn.ModuleDict({"color": MulticlassAccuracy(2, average="micro"), "kind": MulticlassAccuracy(3, average="micro")})

    def forward(self, x):
        shared = self.trunk(x)
        return {task: head(shared) for task, head in self.heads.items()}

    def losses(self, out, target):
        return {
            "color": F.cross_entropy(out["color"], target["color"]),
            "kind": F.cross_entropy(out["kind"], target["kind"]),
            "box": F.smooth_l1_loss(out["box"], target["box"], beta=0.05),
        }

    def training_step(self, batch, batch_idx):
        x, target = batch
        losses = self.losses(self(x), target)
        total = sum(torch.exp(-self.log_vars[task]) * loss + 0.5 * self.log_vars[task] for task, loss in losses.items())
        self.log("train_loss", total, on_step=False, on_epoch=True, batch_size=len(x))
        return total

    def validation_step(self, batch, batch_idx):
        x, target = batch
        out = self(x)
        for task, metric in self.accuracy.items():
            metric(out[task], target[task])
            self.log(f"val_{task}_acc", metric, on_step=False, on_epoch=True)
        self.log("val_iou", self.iou(out["box"], target["box"]).mean(), batch_size=len(x))

    @staticmethod
    def iou(a, b):
        inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
        return inter / ((a[:, 2:] - a[:, :2]).clamp(min=0).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter)

    def configure_optimizers(self):
        # two groups: the uncertainties have a larger rate and are not decayed
        weights = [p for name, p in self.named_parameters() if not name.startswith("log_vars")]
        groups = [
            {"params": weights, "weight_decay": self.hparams.weight_decay},
            {"params": self.log_vars.parameters(), "lr": 5 * self.hparams.lr, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=[self.hparams.lr, 5 * self.hparams.lr], total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        values = {k: round(float(v), 3) for k, v in sorted(trainer.callback_metrics.items())}
        sigmas = {task: round(float((0.5 * v).exp()), 3) for task, v in module.log_vars.items()}
        print(f"epoch {trainer.current_epoch:2d} {values} sigma {sigmas}", flush=True)


if __name__ == "__main__":
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=24, accelerator="cpu", gradient_clip_val=2.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[PrintMetrics()],
    )  # fmt: skip
    trainer.fit(MultiTaskModel(), datamodule=ShapesDataModule())
