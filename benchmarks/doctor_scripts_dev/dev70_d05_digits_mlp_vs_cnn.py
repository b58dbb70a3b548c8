# coding: utf-8
# Assignment 3: compare an MLP and a CNN on the digits data set

# In[1]:

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

# In[2]: data

digits = load_digits()
X = digits.images.astype("float32") / 16.0
y = digits.target.astype("int64")

X_trainval, X_test, y_trainval, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
X_train, X_val, y_train, y_val = train_test_split(
    X_trainval, y_trainval, test_size=0.25, stratify=y_trainval, random_state=0)

X_train, X_val, X_test = [torch.tensor(a).unsqueeze(1) for a in (X_train, X_val, X_test)]
y_train, y_val, y_test = [torch.tensor(a) for a in (y_train, y_val, y_test)]
print(X_train.shape, X_val.shape, X_test.shape)

# In[3]: models

class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 2 * 2, 64)
        self.drop = nn.Dropout(0.25)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.drop(x))


# In[4]: training functions

criterion = nn.CrossEntropyLoss()


def accuracy(model, X, y):
    model.eval()
    with torch.no_grad():
        return (model(X).argmax(1) == y).float().mean().item()


def iterate(X, y, batch_size=32):
    order = torch.randperm(len(X))
    for start in range(0, len(X), batch_size):
        idx = order[start:start + batch_size]
        yield X[idx], y[idx]


def train(model, lr, epochs, verbose=False):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    history = {"loss": [], "train_acc": [], "val_acc": []}
    best_acc, best_state = 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(epochs):
        model.train()
        losses = []
        for xb, yb in iterate(X_train, y_train):
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history["loss"].append(np.mean(losses))
        history["train_acc"].append(accuracy(model, X_train, y_train))
        history["val_acc"].append(accuracy(model, X_val, y_val))
        if history["val_acc"][-1] > best_acc:
            best_acc, best_state = history["val_acc"][-1], copy.deepcopy(model.state_dict())
        if verbose and (epoch + 1) % 5 == 0:
            print(f"  epoch {epoch + 1:2d} loss {history['loss'][-1]:.4f} "
                  f"train {history['train_acc'][-1]:.3f} val {history['val_acc'][-1]:.3f}")
    model.load_state_dict(best_state)
    return history


# In[5]: learning rate search, 6 epochs each

LEARNING_RATES = [0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
best_lrs = {}
for Net in (MLP, CNN):
    best_val = -1.0
    for lr in LEARNING_RATES:
        torch.manual_seed(0)
        net = Net()
        h = train(net, lr, epochs=6)
        print(f"{Net.__name__} lr={lr:<6g} val acc {max(h['val_acc']):.3f}")
        if max(h["val_acc"]) > best_val:
            best_val, best_lrs[Net.__name__] = max(h["val_acc"]), lr

print("chosen:", best_lrs)

# In[6]: final training

histories, results = {}, {}
for Net in (MLP, CNN):
    name = Net.__name__
    print(name)
    torch.manual_seed(1)
    net = Net()
    histories[name] = train(net, best_lrs[name], epochs=20, verbose=True)
    results[name] = accuracy(net, X_test, y_test)

# In[7]: summary

for name in results:
    h = histories[name]
    print(f"{name}: lr {best_lrs[name]:g}, best val {max(h['val_acc']):.3f} "
          f"(epoch {int(np.argmax(h['val_acc'])) + 1}), test {results[name]:.3f}")
