"""One network, three tasks (name, box, mask) on shapes, weighted by learned uncertainty (Kendall et al., 2018)."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class Scenes(Dataset):
    def __init__(self, shapes, indices, augment=False):
        self.shapes, self.indices, self.augment = shapes, indices, augment

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, item):
        index = self.indices[item]
        image, box, mask = self.shapes.images[index], self.shapes.boxes[index], self.shapes.masks[index]
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
            left, top, right, bottom = box
            box = torch.stack([1 - right, top, 1 - left, bottom])
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-2), mask.flip(-2)
            left, top, right, bottom = box
            box = torch.stack([left, 1 - bottom, right, 1 - top])
        return (image - 0.5) / 0.2, {"name": self.shapes.targets[index], "box": box, "mask": mask}


def conv(inputs, outputs, stride=1):
    layers = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def box_iou(a, b):
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (a, b))
    return overlap / (area_a + area_b - overlap + 1e-6)


class MultiTask(L.LightningModule):
    def __init__(self, lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.enc1, self.enc2, self.enc3 = conv(3, 16), conv(16, 32, 2), conv(32, 64, 2)
        self.name_head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 16, 6))
        self.box_head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid())
        self.dec2, self.dec1 = conv(64 + 32, 32), conv(32 + 16, 16)
        self.mask_head = nn.Conv2d(16, 4, 1)
        self.log_vars = nn.Parameter(torch.zeros(3))

    def forward(self, images):
        full = self.enc1(images)
        half = self.enc2(full)
        quarter = self.enc3(half)
        up = self.dec2(torch.cat([F.interpolate(quarter, scale_factor=2), half], dim=1))
        up = self.dec1(torch.cat([F.interpolate(up, scale_factor=2), full], dim=1))
        return {"name": self.name_head(quarter), "box": self.box_head(quarter), "mask": self.mask_head(up)}

    def training_step(self, batch, batch_idx):
        images, target = batch
        output = self(images)
        losses = torch.stack([
            F.cross_entropy(output["name"], target["name"]),
            F.smooth_l1_loss(output["box"], target["box"], beta=0.05),
            F.cross_entropy(output["mask"], target["mask"]),
        ])
        loss = (torch.exp(-self.log_vars) * losses + self.log_vars).sum()
        self.log_dict({"loss_name": losses[0], "loss_box": losses[1], "loss_mask": losses[2]})
        return loss

    def start_evaluation(self):
        self.seen, self.right, self.overlap = 0, 0, 0.0
        self.confusion = torch.zeros(4, 4, dtype=torch.long)

    def evaluate_batch(self, batch):
        images, target = batch
        output = self(images)
        self.seen += len(images)
        self.right += (output["name"].argmax(1) == target["name"]).sum().item()
        self.overlap += box_iou(output["box"], target["box"]).sum().item()
        pairs = 4 * target["mask"] + output["mask"].argmax(1)
        self.confusion += torch.bincount(pairs.flatten(), minlength=16).view(4, 4)

    def finish_evaluation(self, split):
        both = self.confusion.diag()
        mask_iou = (both / (self.confusion.sum(0) + self.confusion.sum(1) - both).clamp(min=1)).mean().item()
        accuracy, box = self.right / self.seen, self.overlap / self.seen
        scores = {"accuracy": accuracy, "box_iou": box, "mask_iou": mask_iou, "score": (accuracy + box + mask_iou) / 3}
        self.log_dict({f"{split}_{key}": value for key, value in scores.items()})
        print(split, " ".join(f"{key} {value:.3f}" for key, value in scores.items()))

    def on_validation_epoch_start(self):
        self.start_evaluation()

    def validation_step(self, batch, batch_idx):
        self.evaluate_batch(batch)

    def on_validation_epoch_end(self):
        self.finish_evaluation("val")

    def on_test_epoch_start(self):
        self.start_evaluation()

    def test_step(self, batch, batch_idx):
        self.evaluate_batch(batch)

    def on_test_epoch_end(self):
        self.finish_evaluation("test")

    def configure_optimizers(self):
        lr = self.hparams.lr
        network = [parameter for name, parameter in self.named_parameters() if name != "log_vars"]
        groups = [{"params": network, "weight_decay": 1e-3}, {"params": [self.log_vars], "weight_decay": 0.0}]
        peaks = [lr, 10 * lr]
        optimizer = torch.optim.AdamW(groups, lr=lr)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peaks, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main():
    L.seed_everything(7)
    shapes, held_out = Shapes(train=True), Shapes(train=False)
    order = torch.randperm(len(shapes)).tolist()
    train_loader = DataLoader(Scenes(shapes, order[180:], augment=True), batch_size=48, shuffle=True, drop_last=True)
    val_loader = DataLoader(Scenes(shapes, order[:180]), batch_size=90)
    test_loader = DataLoader(Scenes(held_out, list(range(len(held_out)))), batch_size=80)
    with tempfile.TemporaryDirectory() as folder:
        keep = ModelCheckpoint(dirpath=folder, monitor="val_score", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=12, accelerator="cpu", devices=1, logger=False, callbacks=[keep], num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False,
        )
        trainer.fit(MultiTask(), train_loader, val_loader)
        trainer.test(dataloaders=test_loader, ckpt_path="best", verbose=False)


if __name__ == "__main__":
    main()
