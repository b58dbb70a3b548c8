"""Embeddings of digits with a triplet loss, as a LightningModule; recall@1 picks the checkpoint."""

import tempfile

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Digits

MEAN, STD = 0.15, 0.3


def to_input(image):
    return (image.float() / 255 - MEAN) / STD


def augment(image):
    noisy = image.float() + 12.0 * torch.randn(image.shape)
    return (noisy.clamp(0, 255) / 255 - MEAN) / STD


class TripletDigits(Dataset):
    """Anchor, another image of the same digit, and one of another digit."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.same = {int(c): (labels == c).nonzero().flatten() for c in labels.unique()}
        self.other = {int(c): (labels != c).nonzero().flatten() for c in labels.unique()}

    def __len__(self):
        return len(self.images)

    @staticmethod
    def pick(indices):
        return int(indices[torch.randint(len(indices), (1,))])

    def __getitem__(self, index):
        label = int(self.labels[index])
        positive = index
        while positive == index:
            positive = self.pick(self.same[label])
        negative = self.pick(self.other[label])
        return tuple(augment(self.images[i]) for i in (index, positive, negative))


class LabeledDigits(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return to_input(self.images[index]), self.labels[index]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        pool = Digits(train=True, count=1200)
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(7))
        fit_rows, held_out = order[:900], order[900:]
        self.train_set = TripletDigits(pool.data[fit_rows], pool.targets[fit_rows])
        self.val_set = LabeledDigits(pool.data[held_out], pool.targets[held_out])
        test = Digits(train=False)
        self.test_set = LabeledDigits(test.data, test.targets)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x).flatten(1)), dim=1)


class TripletModule(L.LightningModule):
    def __init__(self, dim=16, margin=0.5, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = EmbeddingNet(dim)
        self.criterion = nn.TripletMarginLoss(margin=margin)
        self.embedded = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        anchor, positive, negative = batch
        loss = self.criterion(self(anchor), self(positive), self(negative))
        self.log("train_loss", loss)
        return loss

    def collect(self, batch):
        images, labels = batch
        self.embedded.append((self(images), labels))

    def recall_at_1(self):
        embeddings = torch.cat([pair[0] for pair in self.embedded])
        labels = torch.cat([pair[1] for pair in self.embedded])
        self.embedded.clear()
        similarity = embeddings @ embeddings.T
        similarity.fill_diagonal_(-2)
        nearest = similarity.argmax(dim=1)
        return (labels[nearest] == labels).float().mean()

    def validation_step(self, batch, batch_idx):
        self.collect(batch)

    def on_validation_epoch_end(self):
        self.log("val_recall", self.recall_at_1())

    def test_step(self, batch, batch_idx):
        self.collect(batch)

    def on_test_epoch_end(self):
        self.log("test_recall", self.recall_at_1())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
        return [optimizer], [scheduler]


def main():
    L.seed_everything(3)
    data = DigitsDataModule()
    module = TripletModule()
    with tempfile.TemporaryDirectory() as folder:
        keeper = ModelCheckpoint(dirpath=folder, monitor="val_recall", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=8,
            devices=1, callbacks=[keeper], logger=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, datamodule=data)
        best = TripletModule.load_from_checkpoint(keeper.best_model_path)
        result = trainer.test(best, datamodule=data, verbose=False)[0]
    print(f"best epoch: recall@1 {float(keeper.best_model_score):.3f} in validation, {result['test_recall']:.3f} in test")


if __name__ == "__main__":
    main()
