import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

X, y = load_diabetes(return_X_y=True, scaled=False)
X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.25, random_state=42)
scaler_x, scaler_y = StandardScaler(), StandardScaler()
X_train, X_val = scaler_x.fit_transform(X_train), scaler_x.transform(X_val)
y_train = scaler_y.fit_transform(y_train.reshape(-1, 1)).ravel()
y_val = scaler_y.transform(y_val.reshape(-1, 1)).ravel()


class MyDataset(Dataset):
    def __init__(self, X, y):
        self.X = torch.from_numpy(X.astype(np.float32))
        self.y = torch.from_numpy(y.astype(np.float32)).reshape(-1, 1)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return self.X[idx], self.y[idx]


torch.manual_seed(1)
train_dl = DataLoader(MyDataset(X_train, y_train), batch_size=32, shuffle=True)
val_dl = DataLoader(MyDataset(X_val, y_val), batch_size=64)


class MLP(nn.Module):
    def __init__(self, n_inputs):
        super().__init__()
        self.hidden1 = nn.Linear(n_inputs, 24)
        self.act1 = nn.ReLU()
        self.hidden2 = nn.Linear(24, 12)
        self.act2 = nn.ReLU()
        self.hidden3 = nn.Linear(12, 1)

    def forward(self, X):
        X = self.act1(self.hidden1(X))
        X = self.act2(self.hidden2(X))
        return self.hidden3(X)


model = MLP(10)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
for epoch in range(15):
    model.train()
    for i, (inputs, targets) in enumerate(train_dl):
        optimizer.zero_grad()
        yhat = model(inputs)
        loss = criterion(yhat, targets)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        mse = np.mean([((model(a) - b) ** 2).mean().item() for a, b in val_dl])
    print(epoch, loss.item(), mse)
