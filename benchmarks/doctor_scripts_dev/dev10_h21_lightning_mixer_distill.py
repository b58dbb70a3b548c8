"""Lightning: a convolutional teacher, then an MLP-Mixer that learns from labels and from the teacher's soft answers."""
import logging
import tempfile
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class DigitsData(L.LightningDataModule):
    def __init__(self, batch_size=100):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        x, y = draw_digits(2000, seed=0)
        vx, vy = draw_digits(400, seed=1)
        mean, std = (x.float() / 255).mean(), (x.float() / 255).std()
        self.train_set = TensorDataset((x.float() / 255 - mean) / std, y)
        self.val_set = TensorDataset((vx.float() / 255 - mean) / std, vy)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 200)


class MixerBlock(nn.Module):
    def __init__(self, tokens, dim, token_hidden, channel_hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(tokens, token_hidden), nn.GELU(), nn.Linear(token_hidden, tokens))
        self.channels = nn.Sequential(nn.Linear(dim, channel_hidden), nn.GELU(), nn.Linear(channel_hidden, dim))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, dim=48, depth=3, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, dim, 4, stride=2, padding=1)  # overlapping patches, 8 x 8 of them
        self.blocks = nn.Sequential(*[MixerBlock(64, dim, 96, 96) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


def teacher_net():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 16, 10))


class Classifier(L.LightningModule):
    def __init__(self, net, lr, name):
        super().__init__()
        self.net, self.lr, self.name = net, lr, name

    def forward(self, x):
        return self.net(x)

    def loss(self, x, y):
        return F.cross_entropy(self(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(*batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log_dict({"val_loss": F.cross_entropy(logits, y), "val_acc": (logits.argmax(1) == y).float().mean()}, batch_size=len(y))

    def on_validation_epoch_end(self):
        m = self.trainer.callback_metrics
        print(f"{self.name} epoch {self.current_epoch} val_loss {m['val_loss']:.4f} val_acc {m['val_acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.lr, weight_decay=0.05)
        total = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Student(Classifier):
    def __init__(self, net, lr, name, teacher, temperature=3.0, weight=0.7):
        super().__init__(net, lr, name)
        self.teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that it is no part of this module
        self.temperature, self.weight = temperature, weight

    def loss(self, x, y):
        logits, t = self(x), self.temperature
        with torch.no_grad():
            soft = self.teacher[0](x)
        kl = F.kl_div(F.log_softmax(logits / t, 1), F.log_softmax(soft / t, 1), reduction="batchmean", log_target=True) * t * t
        return self.weight * kl + (1 - self.weight) * F.cross_entropy(logits, y)


def run(module, data, epochs, folder):
    keep = ModelCheckpoint(dirpath=folder, filename=module.name, monitor="val_acc", mode="max")
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, gradient_clip_val=5.0, callbacks=[keep, EarlyStopping("val_loss", patience=8)])
    trainer.fit(module, datamodule=data)
    module.load_state_dict(torch.load(keep.best_model_path)["state_dict"])
    return keep.best_model_score.item()


def main():
    L.seed_everything(5, verbose=False)
    data = DigitsData()
    with tempfile.TemporaryDirectory() as folder:
        teacher = Classifier(teacher_net(), lr=5e-3, name="teacher")
        print(f"teacher best {run(teacher, data, 4, folder):.4f}")
        student = Student(Mixer(), lr=4e-3, name="student", teacher=teacher.net)
        print(f"student best {run(student, data, 9, folder):.4f}")


if __name__ == "__main__":
    main()
