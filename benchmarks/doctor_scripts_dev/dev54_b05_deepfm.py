"""DeepFM on a generated click log with ratings, after torchfm's example."""
import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, random_split

class RatingsDataset(Dataset):
    """Rows of (user, item, hour, device, city, genre) and a rating of 1 to 5; more than 3 counts as liked."""

    def __init__(self, count=2000, seed=0):
        rng = np.random.default_rng(seed)
        self.field_dims = np.array((20, 25, 8, 5, 10, 6))
        self.items = np.column_stack([rng.integers(0, d, size=count) for d in self.field_dims]).astype(np.int64)
        factors = [rng.normal(size=(d, 2)) for d in self.field_dims]
        first = [rng.normal(size=d) for d in self.field_dims]
        score = 0.8 * sum(first[f][self.items[:, f]] for f in range(6))
        for f, g in ((2, 3), (3, 5), (0, 5)):
            score = score + 1.5 * (factors[f][self.items[:, f]] * factors[g][self.items[:, g]]).sum(1)
        score = score - np.median(score)
        ratings = np.clip(np.round(3.5 + 0.7 * score + 0.2 * rng.normal(size=count)), 1, 5)
        self.targets = self.__preprocess_target(ratings).astype(np.float32)

    def __len__(self):
        return self.targets.shape[0]

    def __getitem__(self, index):
        return self.items[index], self.targets[index]

    def __preprocess_target(self, target):
        target[target <= 3] = 0
        target[target > 3] = 1
        return target

class FeaturesLinear(nn.Module):
    def __init__(self, field_dims):
        super().__init__()
        self.fc = nn.Embedding(int(sum(field_dims)), 1)
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.fc.weight, std=0.01)
        offsets = np.concatenate([[0], np.cumsum(field_dims)[:-1]])
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.long))

    def forward(self, x):
        return self.fc(x + self.offsets).sum(dim=1) + self.bias

class FeaturesEmbedding(nn.Module):
    def __init__(self, field_dims, embed_dim):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(int(d), embed_dim) for d in field_dims])
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x):
        return torch.stack([table(x[:, i]) for i, table in enumerate(self.tables)], dim=1)

class FactorizationMachine(nn.Module):
    def forward(self, x):
        return 0.5 * (x.sum(dim=1) ** 2 - (x**2).sum(dim=1)).sum(dim=1, keepdim=True)

class MultiLayerPerceptron(nn.Module):
    def __init__(self, input_dim, embed_dims, dropout):
        super().__init__()
        layers = []
        for embed_dim in embed_dims:
            layers += [nn.Linear(input_dim, embed_dim), nn.BatchNorm1d(embed_dim), nn.ReLU(), nn.Dropout(p=dropout)]
            input_dim = embed_dim
        layers.append(nn.Linear(input_dim, 1))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x):
        return self.mlp(x)

class DeepFactorizationMachineModel(nn.Module):
    def __init__(self, field_dims, embed_dim, mlp_dims, dropout):
        super().__init__()
        self.linear = FeaturesLinear(field_dims)
        self.fm = FactorizationMachine()
        self.embedding = FeaturesEmbedding(field_dims, embed_dim)
        self.mlp = MultiLayerPerceptron(len(field_dims) * embed_dim, mlp_dims, dropout)

    def forward(self, x):
        embed_x = self.embedding(x)
        x = self.linear(x) + self.fm(embed_x) + self.mlp(embed_x.flatten(1))
        return torch.sigmoid(x.squeeze(1))

class EarlyStopper:
    def __init__(self, num_trials):
        self.num_trials, self.trial_counter = num_trials, 0
        self.best_accuracy, self.best_state = 0, None

    def is_continuable(self, model, accuracy):
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.trial_counter = accuracy, 0
            self.best_state = copy.deepcopy(model.state_dict())
            return True
        self.trial_counter += 1
        return self.trial_counter < self.num_trials

def get_optimizer(model, learning_rate, weight_decay):
    return torch.optim.Adam(params=model.parameters(), lr=learning_rate, weight_decay=weight_decay)

def train(model, optimizer, data_loader, criterion):
    model.train()
    total_loss = 0.0
    for fields, target in data_loader:
        target = target.float()
        loss = criterion(model(fields), target)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(target)
    return total_loss / len(data_loader.dataset)

def test(model, data_loader, criterion):
    model.eval()
    targets, predicts = [], []
    with torch.no_grad():
        for fields, target in data_loader:
            targets.append(target.float())
            predicts.append(model(fields))
    targets, predicts = torch.cat(targets), torch.cat(predicts)
    logloss = criterion(predicts, targets).item()
    accuracy = ((predicts > 0.5).float() == targets).float().mean().item()
    return roc_auc_score(targets.numpy(), predicts.numpy()), logloss, accuracy

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    args = parser.parse_args()
    torch.manual_seed(0)
    dataset = RatingsDataset()
    train_length, valid_length = int(len(dataset) * 0.8), int(len(dataset) * 0.1)
    lengths = (train_length, valid_length, len(dataset) - train_length - valid_length)
    train_set, valid_set, test_set = random_split(dataset, lengths)
    train_data_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    valid_data_loader, test_data_loader = (DataLoader(part, batch_size=args.batch_size) for part in (valid_set, test_set))
    model = DeepFactorizationMachineModel(dataset.field_dims, embed_dim=8, mlp_dims=(32, 16), dropout=0.2)
    criterion = nn.BCELoss()
    optimizer = get_optimizer(model, args.learning_rate, args.weight_decay)
    early_stopper = EarlyStopper(num_trials=3)
    for epoch_i in range(args.epoch):
        loss = train(model, optimizer, train_data_loader, criterion)
        auc, logloss, accuracy = test(model, valid_data_loader, criterion)
        print(f"epoch: {epoch_i} loss: {loss:.4f} valid auc: {auc:.4f} logloss: {logloss:.4f} accuracy: {accuracy:.4f}")
        if not early_stopper.is_continuable(model, auc):
            print(f"validation: best auc: {early_stopper.best_accuracy:.4f}")
            break
    model.load_state_dict(early_stopper.best_state)
    auc, logloss, accuracy = test(model, test_data_loader, criterion)
    print(f"test auc: {auc:.4f} logloss: {logloss:.4f} accuracy: {accuracy:.4f}")

if __name__ == "__main__":
    main()
