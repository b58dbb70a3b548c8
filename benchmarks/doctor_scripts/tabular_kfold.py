import numpy as np
import torch
import torch.nn as nn
from toydata import houses


class TabularModel(nn.Module):
    def __init__(self, num_features, hidden_size=64):
        super().__init__()
        self.batch_norm1 = nn.BatchNorm1d(num_features)
        self.dense1 = nn.Linear(num_features, hidden_size)
        self.dropout = nn.Dropout(0.1)
        self.dense2 = nn.Linear(hidden_size, hidden_size)
        self.dense3 = nn.Linear(hidden_size, 1)

    def forward(self, x):
        x = self.batch_norm1(x)
        x = torch.relu(self.dense1(x))
        x = torch.relu(self.dense2(self.dropout(x)))
        return self.dense3(x)


class TrainDataset:
    def __init__(self, features, targets):
        self.features, self.targets = features, targets

    def __len__(self):
        return len(self.features)

    def __getitem__(self, idx):
        return {
            "x": torch.tensor(self.features[idx], dtype=torch.float),
            "y": torch.tensor(self.targets[idx], dtype=torch.float),
        }


def train_fn(model, optimizer, loss_fn, dataloader):
    model.train()
    final_loss = 0
    for data in dataloader:
        optimizer.zero_grad()
        inputs, targets = data["x"], data["y"]
        outputs = model(inputs)
        loss = loss_fn(outputs.squeeze(1), targets)
        loss.backward()
        optimizer.step()
        final_loss += loss.item()
    return final_loss / len(dataloader)


def valid_fn(model, dataloader):
    model.eval()
    preds, ys = [], []
    with torch.no_grad():
        for data in dataloader:
            preds.append(model(data["x"]).squeeze(1))
            ys.append(data["y"])
    return torch.mean((torch.cat(preds) > 0.0) == (torch.cat(ys) > 0.5), dtype=torch.float).item()


def run_training(fold, x, y):
    torch.manual_seed(fold)
    order = np.random.RandomState(42).permutation(len(x))
    folds = np.array_split(order, 5)
    trn_idx, val_idx = np.concatenate([f for i, f in enumerate(folds) if i != fold]), folds[fold]
    train_dataset, valid_dataset = TrainDataset(x[trn_idx], y[trn_idx]), TrainDataset(x[val_idx], y[val_idx])
    trainloader = torch.utils.data.DataLoader(train_dataset, batch_size=32, shuffle=True)
    validloader = torch.utils.data.DataLoader(valid_dataset, batch_size=32, shuffle=False)
    model = TabularModel(x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    loss_fn = nn.BCEWithLogitsLoss()
    for epoch in range(8):
        train_loss = train_fn(model, optimizer, loss_fn, trainloader)
        print(
            f"FOLD: {fold}, EPOCH: {epoch}, train_loss: {train_loss:.4f}, accuracy: {valid_fn(model, validloader):.4f}"
        )


features, price = houses()
x = features.numpy()
y = (price > 200).float().numpy()
run_training(0, x, y)
