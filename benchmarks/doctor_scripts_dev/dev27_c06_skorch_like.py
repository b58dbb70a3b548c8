"""A scikit-learn style estimator around a module; focal loss with class weights for rare digits."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import balanced_accuracy_score, classification_report
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class FocalLoss(nn.Module):
    def __init__(self, weight=None, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight)

    def forward(self, logits, target):
        logp = F.log_softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1)
        focal = (1 - logp.exp()) ** self.gamma * -logp
        if self.weight is None:
            return focal.mean()
        w = self.weight[target]
        return (w * focal).sum() / w.sum()


class ConvModule(nn.Module):
    def __init__(self, channels=24, classes=10, dropout=0.2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.GroupNorm(4, 2 * channels), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(2 * channels * 16, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, classes))

    def forward(self, x):
        return self.out(self.body(x))


class NeuralNetClassifier(BaseEstimator, ClassifierMixin):
    def __init__(self, module=ConvModule, max_epochs=24, lr=2e-3, batch_size=32, gamma=2.0, balanced=True, seed=0):
        self.module = module
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.gamma = gamma
        self.balanced = balanced
        self.seed = seed

    def _scale(self, X):
        return (torch.as_tensor(X, dtype=torch.float32) / 255 - self.mean_) / self.std_

    def fit(self, X, y, validation=None):
        torch.manual_seed(self.seed)
        self.classes_ = np.unique(y)
        scaled = torch.as_tensor(X, dtype=torch.float32) / 255
        self.mean_, self.std_ = scaled.mean().item(), scaled.std().item()
        self.module_ = self.module(classes=len(self.classes_))
        weight = None
        if self.balanced:
            counts = np.bincount(y, minlength=len(self.classes_))
            weight = torch.tensor((len(y) / (len(counts) * counts)) ** 0.5, dtype=torch.float32)
        self.criterion_ = FocalLoss(weight, self.gamma)
        self.optimizer_ = torch.optim.Adam(self.module_.parameters(), lr=self.lr)
        self.history_ = []
        loader = DataLoader(TensorDataset(self._scale(X), torch.as_tensor(y)), batch_size=self.batch_size, shuffle=True)
        for epoch in range(self.max_epochs):
            losses = [self._train_step(xb, yb) for xb, yb in loader]
            row = {"epoch": epoch + 1, "train_loss": float(np.mean(losses))}
            if validation is not None:
                row["valid_bacc"] = balanced_accuracy_score(validation[1], self.predict(validation[0]))
            self.history_.append(row)
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        return self

    def _train_step(self, xb, yb):
        self.module_.train()
        self.optimizer_.zero_grad()
        loss = self.criterion_(self.module_(xb), yb)
        loss.backward()
        self.optimizer_.step()
        return loss.item()

    @torch.no_grad()
    def predict_proba(self, X):
        self.module_.eval()
        batches = DataLoader(TensorDataset(self._scale(X)), batch_size=128)
        return torch.cat([F.softmax(self.module_(xb), dim=1) for (xb,) in batches]).numpy()

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]


def imbalanced(count, seed):
    """Digits above six are three times rarer than the others."""
    images, labels = draw_digits(count, seed=seed)
    rng = np.random.default_rng(seed)
    keep = (labels.numpy() < 7) | (rng.random(count) < 1 / 3)
    return images.numpy()[keep], labels.numpy()[keep]


if __name__ == "__main__":
    X_train, y_train = imbalanced(1800, seed=20)
    X_valid, y_valid = imbalanced(600, seed=21)
    print("counts", np.bincount(y_train))
    net = NeuralNetClassifier()
    net.fit(X_train, y_train, validation=(X_valid, y_valid))
    print(classification_report(y_valid, net.predict(X_valid), digits=3))
