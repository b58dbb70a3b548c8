import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from toydata import houses

torch.manual_seed(0)
features, price = houses()
price_mean, price_std = price.mean(), price.std()
target = ((price - price_mean) / price_std).unsqueeze(1)
dataset = TensorDataset(features, target)
train_set, val_set = random_split(dataset, [640, 160])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=64)

model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(20):
    model.train()
    for X_batch, y_batch in train_loader:
        y_pred = model(X_batch)
        loss = loss_fn(y_pred, y_batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        squared, count = 0.0, 0
        for X_batch, y_batch in val_loader:
            squared += ((model(X_batch) - y_batch) ** 2).sum().item()
            count += y_batch.numel()
    if epoch % 5 == 4:
        print(f"epoch {epoch}: validation RMSE {(squared / count) ** 0.5:.4f} standard deviations of the price")
