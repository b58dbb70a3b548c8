"""Rhythm classification from three-lead ECG strips, organized as a LightningModule with manual optimization."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RHYTHMS = ("sinus", "tachycardia", "wide_qrs", "inverted_t")
PREVALENCE = (0.70, 0.13, 0.10, 0.07)


def synthesize(count, length=120, seed=0):
    """Strips as the recorder writes them: (count, time, leads), float32."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(RHYTHMS), size=count, p=PREVALENCE)
    period = np.where(labels == 1, 17.0, 26.0) + rng.normal(0, 1.0, count)
    width = np.where(labels == 2, 2.6, 1.2)[:, None]
    t_wave = np.where(labels == 3, -0.4, 0.4)[:, None]
    time = np.arange(length)[None, :] + rng.uniform(0, 26, (count, 1))
    position = time % period[:, None]
    beat = np.exp(-((position - 4) ** 2) / (2 * width**2)) + t_wave * np.exp(-((position - 12) ** 2) / 8)
    leads = beat[:, :, None] * np.array([1.0, 0.7, -0.5]) * rng.uniform(0.8, 1.2, (count, 1, 1))
    leads = leads + 0.3 * rng.normal(size=leads.shape)
    return leads.astype(np.float32), labels.astype(np.int64)


class ECGDataModule:
    def __init__(self, batch_size=64):
        self.batch_size = batch_size

    def setup(self):
        strips, self.train_labels = synthesize(1500, seed=1)
        held_out, self.val_labels = synthesize(400, seed=2)
        self.mean, self.std = strips.mean((0, 1)), strips.std((0, 1))
        self.train_x, self.val_x = self.to_tensor(strips), self.to_tensor(held_out)

    def to_tensor(self, strips):
        x = torch.from_numpy((strips - self.mean) / self.std)
        return x.permute(0, 2, 1).contiguous()  # (N, leads, time)

    def class_weights(self):
        counts = torch.bincount(torch.from_numpy(self.train_labels), minlength=len(RHYTHMS)).float()
        return counts.sum() / (len(RHYTHMS) * counts)

    def train_dataloader(self):
        dataset = TensorDataset(self.train_x, torch.from_numpy(self.train_labels))
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(self.val_x, torch.from_numpy(self.val_labels)), batch_size=200)


class ConvBlock(nn.Sequential):
    def __init__(self, c_in, c_out, kernel, stride):
        super().__init__(
            nn.Conv1d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(c_out),
            nn.ReLU(inplace=True),
        )


class LitECG(nn.Module):
    automatic_optimization = False

    def __init__(self, lr=2e-3, width=16, n_classes=len(RHYTHMS)):
        super().__init__()
        self.lr = lr
        self.features = nn.Sequential(
            ConvBlock(3, width, 9, 1), ConvBlock(width, 2 * width, 7, 2), ConvBlock(2 * width, 2 * width, 5, 2), ConvBlock(2 * width, 3 * width, 5, 1)
        )
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(3 * width, n_classes)

    def forward(self, x):
        return self.classifier(self.dropout(self.features(x).mean(-1)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-3)

    def training_step(self, batch, opt, criterion):
        x, y = batch
        loss = criterion(self(x), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 5.0)
        opt.step()
        return loss


def fit_loop_step(model, batch, optimizer, loss):
    """What the Trainer does for each batch."""
    model.train()
    return model.training_step(batch, optimizer, loss)


def setup():
    torch.manual_seed(7)
    dm = ECGDataModule()
    dm.setup()
    model = LitECG()
    return {
        "model": model,
        "train": dm.train_dataloader(),
        "val": dm.val_dataloader(),
        "loss": nn.CrossEntropyLoss(weight=dm.class_weights()),
        "optimizer": model.configure_optimizers(),
        "step": fit_loop_step,
    }
