"""Click prediction on tabular data with embeddings, a small cousin of facebookresearch/dlrm."""

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import f1_score, roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

CARDINALITIES = (12, 8, 5)


def generate_log(rows, seed):
    """A table: four skewed counters, then the click; and three categorical columns."""
    rng = np.random.default_rng(seed)
    categories = np.stack([rng.integers(0, n, rows) for n in CARDINALITIES], axis=1)
    effects = [np.random.default_rng(7 + i).normal(0, 1.2, n) for i, n in enumerate(CARDINALITIES)]
    normal = rng.normal(0, 1, (rows, 4))
    score = sum(effect[categories[:, i]] for i, effect in enumerate(effects))
    score = score + 1.2 * normal[:, 0] - 1.0 * normal[:, 1] + 0.7 * normal[:, 2] * normal[:, 3] - 2.5
    clicks = rng.random(rows) < 1 / (1 + np.exp(-1.5 * score))
    table = np.concatenate([np.exp(1.5 * normal + 2), clicks[:, None]], axis=1).astype(np.float32)
    return table, categories


class Preprocessor:
    """log(1 + x), then standardization with the figures of the training rows."""

    def fit(self, dense):
        logged = np.log1p(dense)
        self.mean, self.std = logged.mean(0), logged.std(0)
        return self

    def __call__(self, dense):
        return torch.from_numpy((np.log1p(dense) - self.mean) / self.std).float()


def make_mlp(sizes, last=False):
    layers = []
    for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:])):
        layers.append(nn.Linear(n, m))
        if not (last and i == len(sizes) - 2):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class DLRM(nn.Module):
    def __init__(self, num_dense, cardinalities, dim=8):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(n, dim) for n in cardinalities])
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.2)
        self.bottom = make_mlp([num_dense, 32, dim])
        fields = len(cardinalities) + 1
        self.register_buffer("pairs", torch.tril_indices(fields, fields, offset=-1))
        self.top = make_mlp([fields * dim + self.pairs.size(1), 32, 1], last=True)

    def interact(self, fields):
        stacked = torch.stack(fields, dim=1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        return torch.cat([stacked.flatten(1), products[:, self.pairs[0], self.pairs[1]]], dim=1)

    def forward(self, dense, sparse):
        fields = [self.bottom(dense)] + [table(sparse[:, i]) for i, table in enumerate(self.tables)]
        return self.top(self.interact(fields)).squeeze(1)


@torch.no_grad()
def predict(model, loader):
    model.eval()
    probs, labels = [], []
    for dense, sparse, clicks in loader:
        probs.append(torch.sigmoid(model(dense, sparse)))
        labels.append(clicks)
    return torch.cat(probs), torch.cat(labels)


def validate(model, loader):
    scores, labels = predict(model, loader)
    decisions = (scores > 0.5).long()
    return {"auc": roc_auc_score(labels.numpy(), scores.numpy()),
            "f1": f1_score(labels.numpy(), decisions.numpy())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nepochs", type=int, default=10)
    parser.add_argument("--mini-batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--print-freq", type=int, default=25)
    args = parser.parse_args()
    torch.manual_seed(123)

    train_table, train_sparse = generate_log(1600, seed=1)
    valid_table, valid_sparse = generate_log(400, seed=2)
    train_dense, valid_dense = train_table[:, :4], valid_table[:, :4]
    train_clicks, valid_clicks = (torch.from_numpy(t[:, 4]) for t in (train_table, valid_table))
    prepare = Preprocessor().fit(train_dense)
    train_data = TensorDataset(prepare(train_dense), torch.from_numpy(train_sparse), train_clicks)
    valid_data = TensorDataset(prepare(valid_dense), torch.from_numpy(valid_sparse), valid_clicks)
    train_ld = DataLoader(train_data, batch_size=args.mini_batch_size, shuffle=True)
    valid_ld = DataLoader(valid_data, batch_size=200)

    model = DLRM(train_dense.shape[1], CARDINALITIES)
    n_pos = train_clicks.sum()
    n_neg = len(train_clicks) - n_pos
    pos_weight = n_neg / n_pos
    print(f"{int(n_pos)} clicks, {int(n_neg)} others, weight of clicks {pos_weight:.2f}")
    optimizer = torch.optim.Adagrad(model.parameters(), lr=args.learning_rate)

    step, start, best_auc, best_state = 0, time.time(), 0.0, None
    for epoch in range(args.nepochs):
        model.train()
        for dense, sparse, clicks in train_ld:
            logits = model(dense, sparse)
            loss = F.binary_cross_entropy_with_logits(logits, clicks, pos_weight=pos_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % args.print_freq == 0:
                ms = 1000 * (time.time() - start) / step
                print(f"Finished it {step} of epoch {epoch}, {ms:.2f} ms/it, loss {loss.item():.4f}")
        results = validate(model, valid_ld)
        if results["auc"] > best_auc:
            best_auc = results["auc"]
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        print(f"Testing at epoch {epoch}: auc {results['auc']:.4f}, f1 {results['f1']:.4f}, best auc {best_auc:.4f}")
    model.load_state_dict(best_state)
    print("Final:", validate(model, valid_ld))


if __name__ == "__main__":
    main()
