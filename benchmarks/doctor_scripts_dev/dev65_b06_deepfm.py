import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class ClickDataset(Dataset):
    """Clicks on ads: user segment, ad category, device, region, site and hour, a click or none."""

    field_dims = np.array([12, 10, 4, 8, 15, 24])

    def __init__(self, count, seed):
        rng = np.random.RandomState(0)  # the world, the same for every part
        linear = [0.7 * rng.randn(dim) for dim in self.field_dims]
        user, ad = rng.randn(self.field_dims[0], 2), rng.randn(self.field_dims[1], 2)
        rng = np.random.RandomState(seed)
        self.items = np.stack([rng.randint(0, dim, count) for dim in self.field_dims], axis=1)
        score = sum(w[self.items[:, i]] for i, w in enumerate(linear)) - 1.8
        score = score + 1.2 * (user[self.items[:, 0]] * ad[self.items[:, 1]]).sum(1)
        self.targets = (rng.rand(count) < 1 / (1 + np.exp(-2 * score))).astype(np.float32)

    def __len__(self):
        return self.targets.shape[0]

    def __getitem__(self, index):
        return self.items[index], self.targets[index]


class FeaturesLinear(torch.nn.Module):
    def __init__(self, field_dims, output_dim=1):
        super().__init__()
        self.fc = torch.nn.Embedding(int(sum(field_dims)), output_dim)
        self.bias = torch.nn.Parameter(torch.zeros((output_dim,)))
        torch.nn.init.normal_(self.fc.weight, std=0.01)
        self.register_buffer("offsets", torch.from_numpy(np.array((0, *np.cumsum(field_dims)[:-1]), dtype=np.int64)))

    def forward(self, x):
        return torch.sum(self.fc(x + self.offsets), dim=1) + self.bias


class FeaturesEmbedding(torch.nn.Module):
    def __init__(self, field_dims, embed_dim):
        super().__init__()
        self.embedding = torch.nn.Embedding(int(sum(field_dims)), embed_dim)
        self.register_buffer("offsets", torch.from_numpy(np.array((0, *np.cumsum(field_dims)[:-1]), dtype=np.int64)))
        torch.nn.init.xavier_uniform_(self.embedding.weight.data)

    def forward(self, x):
        return self.embedding(x + self.offsets)


class FactorizationMachine(torch.nn.Module):
    def forward(self, x):
        square_of_sum = torch.sum(x, dim=1) ** 2
        sum_of_square = torch.sum(x**2, dim=1)
        return 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)


class DeepFactorizationMachineModel(torch.nn.Module):
    def __init__(self, field_dims, embed_dim, mlp_dims, dropout):
        super().__init__()
        self.linear = FeaturesLinear(field_dims)
        self.fm = FactorizationMachine()
        self.embedding = FeaturesEmbedding(field_dims, embed_dim)
        layers, input_dim = [], len(field_dims) * embed_dim
        for dim in mlp_dims:
            layers += [torch.nn.Linear(input_dim, dim), torch.nn.ReLU(), torch.nn.Dropout(p=dropout)]
            input_dim = dim
        layers.append(torch.nn.Linear(input_dim, 1))
        self.mlp = torch.nn.Sequential(*layers)

    def forward(self, x):
        embed_x = self.embedding(x)
        x = self.linear(x) + self.fm(embed_x) + self.mlp(embed_x.flatten(1))
        return torch.sigmoid(x.squeeze(1))


class EarlyStopper:
    def __init__(self, num_trials):
        self.num_trials, self.trial_counter, self.best_auc, self.state = num_trials, 0, 0.0, None

    def is_continuable(self, model, auc):
        if auc > self.best_auc:
            self.best_auc, self.trial_counter = auc, 0
            self.state = copy.deepcopy(model.state_dict())
            return True
        self.trial_counter += 1
        return self.trial_counter < self.num_trials


def train(model, optimizer, scheduler, data_loader, criterion, device):
    model.train()
    total_loss = 0.0
    for fields, target in data_loader:
        fields, target = fields.to(device), target.to(device)
        y = model(fields)
        loss = criterion(y, target.float())
        model.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total_loss += loss.item()
    return total_loss / len(data_loader)


def test(model, data_loader, device):
    model.eval()
    targets, predicts = [], []
    with torch.no_grad():
        for fields, target in data_loader:
            y = model(fields.to(device))
            targets.extend(target.tolist())
            predicts.extend(y.tolist())
    targets, predicts = np.array(targets), np.array(predicts)
    accuracy = ((predicts > 0.5) == (targets > 0.5)).mean()
    return roc_auc_score(targets, predicts), accuracy


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    parser.add_argument("--embed_dim", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(2020)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set, valid_set, test_set = ClickDataset(2000, 1), ClickDataset(500, 2), ClickDataset(500, 3)

    # clicks are rarer than views: draw both about as often
    labels = torch.from_numpy(train_set.targets).long()
    class_weights = 1.0 / torch.bincount(labels, minlength=2).double()
    sample_weights = class_weights[labels]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_set), replacement=True)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, sampler=sampler)
    valid_loader = DataLoader(valid_set, batch_size=256)
    test_loader = DataLoader(test_set, batch_size=256)

    model = DeepFactorizationMachineModel(train_set.field_dims, args.embed_dim, mlp_dims=(32, 16), dropout=0.2).to(device)
    criterion = torch.nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.learning_rate, total_steps=args.epoch * len(train_loader))
    early_stopper = EarlyStopper(num_trials=4)
    for epoch_i in range(args.epoch):
        loss = train(model, optimizer, scheduler, train_loader, criterion, device)
        auc, accuracy = test(model, valid_loader, device)
        print(f"epoch: {epoch_i} loss: {loss:.4f} validation: auc: {auc:.4f} accuracy: {accuracy:.4f}")
        if not early_stopper.is_continuable(model, auc):
            break
    model.load_state_dict(early_stopper.state)
    auc, accuracy = test(model, test_loader, device)
    print(f"test auc: {auc:.4f} accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
