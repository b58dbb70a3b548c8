"""DeepFM for click-through prediction from ratings (idiom of rixwew/pytorch-fm)."""

import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, random_split


def synthesize_ratings(count, seed=0):
    """A table as it comes from a log: six categorical columns, and a rating from 1 to 5 as the last."""
    rng = np.random.default_rng(seed)
    dims = [24, 12, 8, 30, 6, 4]
    columns = np.stack([rng.integers(0, d, count) for d in dims], axis=1)
    effects = [rng.normal(0, 1.0, d) for d in dims]
    score = sum(effect[columns[:, i]] for i, effect in enumerate(effects))
    score = score + 0.3 * rng.normal(size=count)
    ratings = 1 + np.digitize(score, np.quantile(score, [0.15, 0.35, 0.55, 0.8]))
    return np.concatenate([columns, ratings[:, None]], axis=1)


class RatingDataset(Dataset):
    def __init__(self, table):
        self.items = table[:, :-1].astype(np.int64)
        self.targets = self.__preprocess_target(table[:, -1]).astype(np.float32)
        self.field_dims = np.max(self.items, axis=0) + 1

    def __len__(self):
        return self.targets.shape[0]

    def __getitem__(self, index):
        return self.items[index], self.targets[index]

    def __preprocess_target(self, target):
        target = target.copy()
        target[target <= 3] = 0
        target[target > 3] = 1
        return target


class FeaturesLinear(nn.Module):
    def __init__(self, field_dims, output_dim=1):
        super().__init__()
        self.fc = nn.Embedding(int(sum(field_dims)), output_dim)
        self.bias = nn.Parameter(torch.zeros((output_dim,)))
        self.register_buffer("offsets", torch.tensor(np.array((0, *np.cumsum(field_dims)[:-1])), dtype=torch.long))
        nn.init.normal_(self.fc.weight, std=0.01)

    def forward(self, x):
        return torch.sum(self.fc(x + self.offsets), dim=1) + self.bias


class FeaturesEmbedding(nn.Module):
    def __init__(self, field_dims, embed_dim):
        super().__init__()
        self.embedding = nn.Embedding(int(sum(field_dims)), embed_dim)
        self.register_buffer("offsets", torch.tensor(np.array((0, *np.cumsum(field_dims)[:-1])), dtype=torch.long))
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, x):
        return self.embedding(x + self.offsets)


class FactorizationMachine(nn.Module):
    def forward(self, x):
        square_of_sum = torch.sum(x, dim=1) ** 2
        sum_of_square = torch.sum(x**2, dim=1)
        return 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)


class DeepFactorizationMachineModel(nn.Module):
    def __init__(self, field_dims, embed_dim, mlp_dims, dropout):
        super().__init__()
        self.linear = FeaturesLinear(field_dims)
        self.fm = FactorizationMachine()
        self.embedding = FeaturesEmbedding(field_dims, embed_dim)
        layers, width = [], len(field_dims) * embed_dim
        for mlp_dim in mlp_dims:
            layers += [nn.Linear(width, mlp_dim), nn.ReLU(), nn.Dropout(p=dropout)]
            width = mlp_dim
        layers.append(nn.Linear(width, 1))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x):
        embed_x = self.embedding(x)
        x = self.linear(x) + self.fm(embed_x) + self.mlp(embed_x.flatten(1))
        return torch.sigmoid(x.squeeze(1))


class EarlyStopper:
    def __init__(self, num_trials):
        self.num_trials, self.trial_counter = num_trials, 0
        self.best_auc, self.best_state = 0.0, None

    def is_continuable(self, model, auc):
        if auc > self.best_auc:
            self.best_auc, self.trial_counter = auc, 0
            self.best_state = copy.deepcopy(model.state_dict())
            return True
        self.trial_counter += 1
        return self.trial_counter < self.num_trials


def area_under_curve(targets, scores):
    targets, scores = np.asarray(targets), np.asarray(scores)
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = int((targets == 1).sum())
    pairs = positive * (len(targets) - positive)
    return (ranks[targets == 1].sum() - positive * (positive + 1) / 2) / max(pairs, 1)


def make_optimizer(model, learning_rate, weight_decay):
    """Decay for matrices and tables, none for biases."""
    decay = [p for n, p in model.named_parameters() if not n.endswith("bias")]
    no_decay = [p for n, p in model.named_parameters() if n.endswith("bias")]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.Adam(groups, lr=learning_rate)


def train(model, optimizer, data_loader, criterion, log_interval=10):
    model.train()
    total_loss = 0.0
    for i, (fields, target) in enumerate(data_loader):
        y = model(fields)
        loss = criterion(y, target.float())
        model.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        if (i + 1) % log_interval == 0:
            print(f"    step {i + 1}: loss {total_loss / log_interval:.4f}")
            total_loss = 0.0


def test(model, data_loader):
    model.eval()
    targets, predicts = [], []
    with torch.no_grad():
        for fields, target in data_loader:
            targets.extend(target.tolist())
            predicts.extend(model(fields).tolist())
    return area_under_curve(targets, predicts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=0.005)
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    args = parser.parse_args()
    torch.manual_seed(1)

    dataset = RatingDataset(synthesize_ratings(2000))
    train_set, valid_set, test_set = random_split(dataset, (1600, 200, 200), torch.Generator().manual_seed(4))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=args.batch_size)
    test_loader = DataLoader(test_set, batch_size=args.batch_size)

    model = DeepFactorizationMachineModel(dataset.field_dims, embed_dim=8, mlp_dims=(32,), dropout=0.2)
    criterion = nn.BCELoss()
    optimizer = make_optimizer(model, args.learning_rate, args.weight_decay)
    early_stopper = EarlyStopper(num_trials=3)
    for epoch_i in range(args.epoch):
        train(model, optimizer, train_loader, criterion)
        auc = test(model, valid_loader)
        print(f"epoch: {epoch_i} validation auc: {auc:.4f}")
        if not early_stopper.is_continuable(model, auc):
            break
    if early_stopper.best_state is not None:
        model.load_state_dict(early_stopper.best_state)
    print(f"test auc: {test(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
