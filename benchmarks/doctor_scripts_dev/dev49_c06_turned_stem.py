"""First learn which way up a digit is, then keep what was learned and read digits."""
import logging
import warnings

import lightning as L
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import toydata

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


def make_stem():
    return nn.Sequential(conv_block(1, 16), nn.MaxPool2d(2), conv_block(16, 32))


def pretrain(stem, images, epochs=5, batch_size=50):
    """The targets are the quarter turns that are made here; no digit's name is used."""
    head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 16, 4))
    parameters = [*stem.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    stem.train()
    for epoch in range(epochs):
        right = 0.0
        for index in torch.randperm(len(images)).split(batch_size):
            x = images[index]
            turned = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])
            turns = torch.arange(4).repeat_interleave(len(x))
            logits = head(stem(turned))
            loss = F.cross_entropy(logits, turns)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += (logits.argmax(1) == turns).sum()
        print(f"turns, epoch {epoch}: {right / (4 * len(images)):.3f} right")
    return stem


class DigitReader(L.LightningModule):
    def __init__(self, stem, lr=3e-3):
        super().__init__()
        self.lr = lr
        self.stem = stem.requires_grad_(False).eval()
        self.tail = nn.Sequential(conv_block(32, 64), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(64 * 16, 10))
        self.counts = {"val": [0, 0], "test": [0, 0]}

    def train(self, mode=True):
        super().train(mode)
        self.stem.eval()
        return self

    def forward(self, x):
        return self.head(self.tail(self.stem(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def _count(self, batch, name):
        x, y = batch
        self.counts[name][0] += (self(x).argmax(1) == y).sum().item()
        self.counts[name][1] += len(y)

    def _report(self, name):
        right, seen = self.counts[name]
        print(f"{name}, epoch {self.current_epoch}: {right / seen:.3f} right")
        self.counts[name] = [0, 0]

    def validation_step(self, batch, batch_idx):
        self._count(batch, "val")

    def on_validation_epoch_end(self):
        self._report("val")

    def test_step(self, batch, batch_idx):
        self._count(batch, "test")

    def on_test_epoch_end(self):
        self._report("test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.lr, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(11)
    train, test = toydata.Digits(train=True), toydata.Digits(train=False)
    order = torch.randperm(len(train))
    fit_index, val_index = order[:1000], order[1000:]
    pixels = train.data[fit_index].float() / 255
    mean, std = pixels.mean(), pixels.std()

    def tensors(data, targets):
        return TensorDataset((data.float() / 255 - mean) / std, targets)

    train_set = tensors(train.data[fit_index], train.targets[fit_index])
    val_set = tensors(train.data[val_index], train.targets[val_index])
    test_set = tensors(test.data, test.targets)

    stem = pretrain(make_stem(), train_set.tensors[0])

    model = DigitReader(stem)
    trainer = L.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, DataLoader(train_set, batch_size=40, shuffle=True), DataLoader(val_set, batch_size=100))
    trainer.test(model, DataLoader(test_set, batch_size=100), verbose=False)


if __name__ == "__main__":
    main()
