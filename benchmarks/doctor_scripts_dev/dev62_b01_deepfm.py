"""Click-through rate prediction with DeepFM on a table of categorical fields."""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, random_split

def make_ratings(count, seed):
    """Rows of (user group, item, genre, weekday, hour, rating)."""
    rng = np.random.default_rng(seed)
    dims = (40, 30, 12, 7, 24)
    fields = np.stack([rng.integers(0, dim, count) for dim in dims], axis=1)
    score = np.zeros(count)
    latent = []
    for column, dim in enumerate(dims):
        score += rng.normal(0, 1.0, dim)[fields[:, column]]
        latent.append(rng.normal(0, 0.4, (dim, 4))[fields[:, column]])
    score += (latent[0] * latent[2]).sum(1) + (latent[1] * latent[4]).sum(1)
    score += rng.normal(0, 0.5, count)
    rating = 1 + np.digitize(score, np.quantile(score, [0.2, 0.4, 0.6, 0.8]))
    return np.concatenate([fields, rating[:, None]], axis=1)

class RatingsDataset(Dataset):
    """Ratings above 3 are positive, the others negative."""

    def __init__(self, count=2000, seed=7):
        data = make_ratings(count, seed)
        self.items = data[:, :-1].astype(np.int64)
        self.targets = self.__preprocess_target(data[:, -1]).astype(np.float32)
        self.field_dims = np.max(self.items, axis=0) + 1

    def __len__(self):
        return self.targets.shape[0]

    def __getitem__(self, index):
        return self.items[index], self.targets[index]

    def __preprocess_target(self, rating):
        return rating > 3

class FeaturesEmbedding(torch.nn.Module):
    def __init__(self, field_dims, embed_dim):
        super().__init__()
        self.embedding = torch.nn.Embedding(int(sum(field_dims)), embed_dim)
        offsets = np.array((0, *np.cumsum(field_dims)[:-1]), dtype=np.int64)
        self.register_buffer("offsets", torch.from_numpy(offsets))
        torch.nn.init.xavier_uniform_(self.embedding.weight)

    def forward(self, x):
        return self.embedding(x + self.offsets.unsqueeze(0))

class FactorizationMachine(torch.nn.Module):
    def forward(self, x):
        square_of_sum, sum_of_square = torch.sum(x, dim=1) ** 2, torch.sum(x**2, dim=1)
        return 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)

class MultiLayerPerceptron(torch.nn.Module):
    def __init__(self, input_dim, embed_dims, dropout):
        super().__init__()
        layers = []
        for embed_dim in embed_dims:
            layers += [torch.nn.Linear(input_dim, embed_dim), torch.nn.BatchNorm1d(embed_dim)]
            layers += [torch.nn.ReLU(), torch.nn.Dropout(p=dropout)]
            input_dim = embed_dim
        layers.append(torch.nn.Linear(input_dim, 1))
        self.mlp = torch.nn.Sequential(*layers)

    def forward(self, x):
        return self.mlp(x)

class DeepFactorizationMachineModel(torch.nn.Module):
    def __init__(self, field_dims, embed_dim, mlp_dims, dropout):
        super().__init__()
        self.linear = FeaturesEmbedding(field_dims, 1)
        self.bias = torch.nn.Parameter(torch.zeros(1))
        self.fm = FactorizationMachine()
        self.embedding = FeaturesEmbedding(field_dims, embed_dim)
        self.mlp = MultiLayerPerceptron(len(field_dims) * embed_dim, mlp_dims, dropout)

    def forward(self, x):
        embed_x = self.embedding(x)
        first_order = self.linear(x).sum(dim=1) + self.bias
        y = first_order + self.fm(embed_x) + self.mlp(embed_x.flatten(1))
        return torch.sigmoid(y.squeeze(1))

class EarlyStopper:
    def __init__(self, num_trials):
        self.num_trials, self.trial_counter = num_trials, 0
        self.best_auc, self.best_state = None, None

    def is_continuable(self, model, auc):
        if self.best_auc is None or auc > self.best_auc:
            self.best_auc = auc
            self.trial_counter = 0
            self.best_state = copy.deepcopy(model.state_dict())
            return True
        self.trial_counter += 1
        return self.trial_counter < self.num_trials

def train(model, optimizer, data_loader, criterion, device):
    model.train()
    total_loss = 0.0
    for fields, target in data_loader:
        fields, target = fields.to(device), target.to(device).float()
        y = model(fields)
        loss = criterion(y, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
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
    return roc_auc_score(targets, predicts)

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device(args.device)
    dataset = RatingsDataset()
    train_length, valid_length = int(len(dataset) * 0.7), int(len(dataset) * 0.15)
    test_length = len(dataset) - train_length - valid_length
    train_dataset, valid_dataset, test_dataset = random_split(dataset, (train_length, valid_length, test_length))
    train_data_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    valid_data_loader = DataLoader(valid_dataset, batch_size=args.batch_size)
    test_data_loader = DataLoader(test_dataset, batch_size=args.batch_size)

    model = DeepFactorizationMachineModel(dataset.field_dims, embed_dim=8, mlp_dims=(32, 16), dropout=0.2).to(device)
    criterion = torch.nn.BCELoss()
    optimizer = torch.optim.Adam(params=model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    early_stopper = EarlyStopper(num_trials=4)
    for epoch_i in range(args.epoch):
        loss = train(model, optimizer, train_data_loader, criterion, device)
        auc = test(model, valid_data_loader, device)
        print(f"epoch: {epoch_i} loss: {loss:.4f} validation: auc: {auc:.4f}")
        if not early_stopper.is_continuable(model, auc):
            break
    model.load_state_dict(early_stopper.best_state)
    print(f"test auc: {test(model, test_data_loader, device):.4f}")

if __name__ == "__main__":
    main()
