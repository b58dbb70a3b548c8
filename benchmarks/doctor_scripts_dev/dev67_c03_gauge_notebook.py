#!/usr/bin/env python
# coding: utf-8

# # Coursework 3: reading an analog thermometer from a picture
#
# We filmed dial thermometers and want to read the temperature (in °C) from a single frame
# with a small CNN. As the films may not be shared, the frames are drawn here instead.

# In[1]:

import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import r2_score
from torch.utils.data import DataLoader, TensorDataset

SEED = 7
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

# ## 1. The data
#
# The scale goes from -20 °C (lower left) to 60 °C (lower right) over 270 degrees.

# In[2]:

IMG = 24
N_CLIPS = 480
FRAMES = 6
T_MIN, T_MAX = -20.0, 60.0

def to_angle(temp):
    return np.deg2rad(225 - 270 * (temp - T_MIN) / (T_MAX - T_MIN))

def draw(temp, s):
    yy, xx = np.mgrid[:IMG, :IMG]
    mid = (IMG - 1) / 2
    dx, dy = xx - mid - s['ox'], mid - yy + s['oy']
    r = np.hypot(dx, dy)
    img = np.where(r < s['radius'], s['face'], s['wall']).astype(float)
    # end marks of the scale
    for end in (T_MIN, T_MAX):
        a = to_angle(end) + s['tilt']
        spot = np.hypot(dx - (s['radius'] - 1.5) * np.cos(a), dy - (s['radius'] - 1.5) * np.sin(a))
        img -= s['mark'] * np.clip(1.5 - spot, 0, 1)
    # needle
    a = to_angle(temp) + s['tilt']
    along = dx * np.cos(a) + dy * np.sin(a)
    across = np.abs(dy * np.cos(a) - dx * np.sin(a))
    needle = np.clip(s['width'] - across + 0.5, 0, 1) * ((along > -2) & (along < s['length']))
    img = img * (1 - needle) + s['ink'] * needle
    img += np.random.normal(0, 18, img.shape)
    return np.clip(img, 0, 255)

# In[3]:

X = np.zeros((N_CLIPS * FRAMES, IMG, IMG), dtype=np.uint8)
y = np.zeros(N_CLIPS * FRAMES, dtype=np.float32)
clip = np.repeat(np.arange(N_CLIPS), FRAMES)

for c in range(N_CLIPS):
    style = {
        'ox': np.random.uniform(-1.5, 1.5), 'oy': np.random.uniform(-1.5, 1.5),
        'radius': np.random.uniform(8.5, 10.5), 'length': np.random.uniform(5.5, 8),
        'width': np.random.uniform(0.4, 1.1), 'tilt': np.deg2rad(np.random.normal(0, 6)),
        'face': np.random.uniform(150, 230), 'wall': np.random.uniform(60, 200),
        'ink': np.random.uniform(10, 80), 'mark': np.random.uniform(0, 80),
    }
    base = np.random.uniform(T_MIN + 2, T_MAX - 2)
    for f in range(FRAMES):
        temp = base + np.random.normal(0, 0.7)
        k = c * FRAMES + f
        X[k] = draw(temp, style)
        y[k] = temp

print(X.shape, X.dtype, 'temperature from %.1f to %.1f' % (y.min(), y.max()))

# In[4]:

# train / validation / test: 70 / 15 / 15
order = np.random.permutation(N_CLIPS)
n_train, n_val = int(0.70 * N_CLIPS), int(0.15 * N_CLIPS)
train_idx = np.flatnonzero(np.isin(clip, order[:n_train]))
val_idx = np.flatnonzero(np.isin(clip, order[n_train:n_train + n_val]))
test_idx = np.flatnonzero(np.isin(clip, order[n_train + n_val:]))
print(len(train_idx), len(val_idx), len(test_idx))

# statistics of the training set
x_mean, x_std = X[train_idx].mean(), X[train_idx].std()
y_mean, y_std = y[train_idx].mean(), y[train_idx].std()
print('pixels: %.1f +- %.1f   temperature: %.1f +- %.1f' % (x_mean, x_std, y_mean, y_std))

# In[5]:

def make_dataset(idx):
    xs = torch.tensor((X[idx] - x_mean) / x_std, dtype=torch.float32).unsqueeze(1)
    ys = torch.tensor((y[idx] - y_mean) / y_std, dtype=torch.float32)
    return TensorDataset(xs, ys)

BATCH = 48
train_loader = DataLoader(make_dataset(train_idx), batch_size=BATCH, shuffle=True)
val_loader = DataLoader(make_dataset(val_idx), batch_size=BATCH)
test_loader = DataLoader(make_dataset(test_idx), batch_size=BATCH)

# ## 2. The model

# In[6]:

class GaugeNet(nn.Module):
    def __init__(self, channels=(1, 16, 32, 32), p=0.2):
        super().__init__()
        self.p = p
        self.convs = nn.ModuleList([
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
            for i, o in zip(channels[:-1], channels[1:])
        ])
        self.fc1 = nn.Linear(channels[-1] * (IMG // 8) ** 2, 64)
        self.fc2 = nn.Linear(64, 1)

    def forward(self, x):
        for conv in self.convs:
            x = conv(x)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.dropout(x, p=self.p, training=self.training)
        return self.fc2(x).squeeze(1)

model = GaugeNet().to(device)
print(model)
print('parameters:', sum(p.numel() for p in model.parameters()))

# ## 3. Training

# In[7]:

EPOCHS = 14
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)

def evaluate(model, loader):
    model.eval()
    preds, trues = [], []
    with torch.no_grad():
        for xb, yb in loader:
            preds.append(model(xb.to(device)).cpu())
            trues.append(yb)
    # back to degrees
    pred = torch.cat(preds).numpy() * y_std + y_mean
    true = torch.cat(trues).numpy() * y_std + y_mean
    mae = np.abs(pred - true).mean()
    return mae, r2_score(true, pred)

# In[8]:

history = {'loss': [], 'val_mae': [], 'val_r2': []}
best_mae, best_epoch, best_state = float('inf'), -1, None

for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for xb, yb in train_loader:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    scheduler.step()

    val_mae, val_r2 = evaluate(model, val_loader)
    history['loss'].append(total / len(train_loader.dataset))
    history['val_mae'].append(val_mae)
    history['val_r2'].append(val_r2)
    if val_mae < best_mae:
        best_mae, best_epoch = val_mae, epoch
        best_state = copy.deepcopy(model.state_dict())
    print('epoch %2d  train loss %.4f  val MAE %.2f °C  val R2 %.4f'
          % (epoch + 1, history['loss'][-1], val_mae, val_r2))

# ## 4. Results

# In[9]:

# learning curve
for e in range(0, EPOCHS, 2):
    print('%2d %s %.2f' % (e + 1, '#' * int(2 * history['val_mae'][e]), history['val_mae'][e]))

# In[10]:

model.load_state_dict(best_state)
test_mae, test_r2 = evaluate(model, test_loader)
baseline = np.abs(y[test_idx] - y_mean).mean()
print('best epoch %d (val MAE %.2f °C)' % (best_epoch + 1, best_mae))
print('test MAE %.2f °C, R2 %.4f (always the mean: %.2f °C)' % (test_mae, test_r2, baseline))
