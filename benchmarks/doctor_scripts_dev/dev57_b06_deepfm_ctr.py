"""DeepFM for click-through rates: categorical fields, two dense ones, averaged weights for evaluation."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import log_loss, roc_auc_score
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

FIELD_DIMS = (12, 8, 10, 6, 5)  # advertiser, device, category, weekday part, region


def impressions(count, seed):
    """Clicks depend on main effects of the fields, on the pair (device, category) and on two dense features."""
    world = np.random.default_rng(99)
    effects = [world.normal(0, 1.0, dim) for dim in FIELD_DIMS]
    device, category = world.normal(0, 1.0, (FIELD_DIMS[1], 2)), world.normal(0, 1.0, (FIELD_DIMS[2], 2))
    rng = np.random.default_rng(seed)
    fields = np.stack([rng.integers(0, dim, count) for dim in FIELD_DIMS], axis=1)
    price, depth = rng.lognormal(1.0, 0.6, count), rng.exponential(3.0, count)
    score = sum(effect[fields[:, i]] for i, effect in enumerate(effects))
    score = score + (device[fields[:, 1]] * category[fields[:, 2]]).sum(1) - 1.2 * (np.log(price) - 1.0) - 0.2 * (depth - 3)
    click = rng.random(count) < 1 / (1 + np.exp(-1.2 * (score - 0.3)))
    dense = np.stack([np.log(price), np.log1p(depth)], axis=1)
    return fields.astype("int64"), dense.astype("float32"), click.astype("float32")


class FeaturesEmbedding(nn.Module):
    """One table for all fields; each field has its own offset."""

    def __init__(self, field_dims, embed_dim, std):
        super().__init__()
        self.embedding = nn.Embedding(sum(field_dims), embed_dim)
        self.register_buffer("offsets", torch.tensor((0, *np.cumsum(field_dims)[:-1].tolist())))
        nn.init.normal_(self.embedding.weight, std=std)

    def forward(self, x):
        return self.embedding(x + self.offsets)


class DeepFM(nn.Module):
    def __init__(self, field_dims, num_dense, embed_dim=8, mlp_dims=(32, 16), dropout=0.1):
        super().__init__()
        self.linear = FeaturesEmbedding(field_dims, 1, std=0.01)
        self.embedding = FeaturesEmbedding(field_dims, embed_dim, std=0.1)
        self.bias = nn.Parameter(torch.zeros(1))
        layers, width = [], len(field_dims) * embed_dim + num_dense
        for dim in mlp_dims:
            layers += [nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout)]
            width = dim
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, fields, dense):
        e = self.embedding(fields)
        second_order = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1)
        first_order = self.linear(fields).sum(1).squeeze(1) + self.bias
        deep = self.mlp(torch.cat([e.flatten(1), dense], dim=1)).squeeze(1)
        return first_order + second_order + deep


def batches(data, batch_size, shuffle):
    n = len(data[-1])
    order = torch.randperm(n) if shuffle else torch.arange(n)
    for rows in order.split(batch_size):
        yield tuple(part[rows] for part in data)


class EarlyStopper:
    def __init__(self, patience):
        self.patience, self.best, self.bad_epochs = patience, 0.0, 0
        self.state = None

    def keep_going(self, auc, model):
        if auc > self.best:
            self.best, self.bad_epochs = auc, 0
            self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            return True
        self.bad_epochs += 1
        return self.bad_epochs < self.patience


@torch.no_grad()
def test(model, data, batch_size):
    model.eval()
    targets, probs, correct = [], [], 0
    for fields, dense, click in batches(data, batch_size, shuffle=False):
        scores = model(fields, dense)
        prob = torch.sigmoid(scores)
        correct += ((prob > 0.5) == (click > 0.5)).sum().item()
        probs.append(prob)
        targets.append(click)
    targets, probs = torch.cat(targets).numpy(), torch.cat(probs).numpy().astype("float64")
    return roc_auc_score(targets, probs), log_loss(targets, probs), correct / len(targets)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--epoch", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    parser.add_argument("--ema", type=float, default=0.9)
    args = parser.parse_args()
    torch.manual_seed(0)

    data = tuple(map(torch.from_numpy, impressions(args.count, seed=5)))
    order = torch.randperm(args.count)
    n_valid = args.count // 5
    valid_idx, train_idx = order[:n_valid], order[n_valid:]
    fields, dense, click = data
    mean, std = dense[train_idx].mean(0), dense[train_idx].std(0)
    data = fields, (dense - mean) / std, click
    train_data = tuple(part[train_idx] for part in data)
    valid_data = tuple(part[valid_idx] for part in data)

    model = DeepFM(FIELD_DIMS, num_dense=2)
    ema_model = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    stopper = EarlyStopper(patience=4)
    for epoch in range(args.epoch):
        model.train()
        total = 0.0
        for fields, dense, click in batches(train_data, args.batch_size, shuffle=True):
            loss = F.binary_cross_entropy_with_logits(model(fields, dense), click)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema_model.update_parameters(model)
            total += loss.item() * len(click)
        auc, ce, accuracy = test(ema_model, valid_data, 256)
        print(f"epoch {epoch}: loss {total / len(train_idx):.4f} | auc {auc:.4f} logloss {ce:.4f} accuracy {accuracy:.4f}")
        if not stopper.keep_going(auc, ema_model):
            print(f"best auc: {stopper.best:.4f}")
            break
    ema_model.load_state_dict(stopper.state)
    print("kept: auc %.4f logloss %.4f accuracy %.4f" % test(ema_model, valid_data, 256))


if __name__ == "__main__":
    main()
