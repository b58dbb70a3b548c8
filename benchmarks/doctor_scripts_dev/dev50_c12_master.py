"""Which houses are expensive? Forward and backward in bfloat16, the weights themselves in float32."""

import copy
import logging

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import nn
from torch.nn import functional as F

from toydata import houses

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger(__name__)


class ResidualBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, dim * 2)
        self.outer = nn.Linear(dim * 2, dim)

    def forward(self, x):
        return x + self.outer(F.gelu(self.inner(self.norm(x))))


class TabularNet(nn.Module):
    def __init__(self, n_features=8, dim=48, n_blocks=2):
        super().__init__()
        self.stem = nn.Linear(n_features, dim)
        self.blocks = nn.Sequential(*[ResidualBlock(dim) for _ in range(n_blocks)])
        self.head = nn.Linear(dim, 1)

    def forward(self, x):
        return self.head(F.gelu(self.blocks(self.stem(x)))).squeeze(-1)


class MasterWeights:
    """Keeps float32 weights and an optimizer for them beside a low-precision network that does the work."""

    def __init__(self, network, dtype, lr, weight_decay):
        self.master = network
        self.worker = copy.deepcopy(network).to(dtype)
        self.dtype = dtype
        self.optimizer = torch.optim.AdamW(self.master.parameters(), lr=lr, weight_decay=weight_decay)

    def pairs(self):
        return zip(self.master.parameters(), self.worker.parameters())

    def loss(self, x, y):
        logits = self.worker(x.to(self.dtype)).float()
        return F.binary_cross_entropy_with_logits(logits, y)

    def update(self, loss, max_norm=5.0):
        loss.backward()
        for full, low in self.pairs():
            full.grad = low.grad.float()
            low.grad = None
        nn.utils.clip_grad_norm_(self.master.parameters(), max_norm)
        self.optimizer.step()
        with torch.no_grad():
            for full, low in self.pairs():
                low.copy_(full)


def make_splits(seed=0):
    features, price = houses(1800, seed=seed)
    train, val, test = (slice(0, 1200), slice(1200, 1500), slice(1500, 1800))
    limit = torch.quantile(price[train], 0.75)
    labels = (price > limit).float()
    mean, std = features[train].mean(0), features[train].std(0)
    features = (features - mean) / std
    return [(features[part], labels[part]) for part in (train, val, test)]


@torch.no_grad()
def predict(network, x):
    network.eval()
    return torch.sigmoid(network(x)).numpy()


def report(name, labels, probability):
    labels = labels.numpy()
    guess = probability > 0.5
    log.info(
        "%s: accuracy %.3f, F1 %.3f, AUC %.3f",
        name,
        accuracy_score(labels, guess),
        f1_score(labels, guess),
        roc_auc_score(labels, probability),
    )


def main(epochs=25, batch_size=60, peak_lr=3e-3):
    torch.manual_seed(17)
    np.random.seed(17)
    torch.set_num_threads(1)
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = make_splits()
    trainer = MasterWeights(TabularNet(), torch.bfloat16, lr=peak_lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        trainer.optimizer, max_lr=peak_lr, total_steps=epochs * (len(x_train) // batch_size), pct_start=0.2
    )
    best_auc, best_weights = 0.0, None
    for epoch in range(epochs):
        trainer.worker.train()
        losses = []
        for rows in torch.randperm(len(x_train)).split(batch_size):
            loss = trainer.loss(x_train[rows], y_train[rows])
            trainer.update(loss)
            schedule.step()
            losses.append(loss.detach())
        auc = roc_auc_score(y_val.numpy(), predict(trainer.master, x_val))
        if auc > best_auc:
            best_auc, best_weights = auc, copy.deepcopy(trainer.master.state_dict())
        if epoch % 5 == 4:
            log.info("epoch %d: loss %.4f, validation AUC %.4f", epoch + 1, torch.stack(losses).mean(), auc)

    trainer.master.load_state_dict(best_weights)
    report("validation", y_val, predict(trainer.master, x_val))
    report("test", y_test, predict(trainer.master, x_test))


if __name__ == "__main__":
    main()
