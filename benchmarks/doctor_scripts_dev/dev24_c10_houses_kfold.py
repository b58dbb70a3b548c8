"""House prices with an MLP, judged by five-fold cross-validation. Each fold has scalers and a network of its own."""

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch import nn

from toydata import houses

N_FOLDS = 5
EPOCHS = 40
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
SEED = 11


def build_model(n_features):
    return nn.Sequential(
        nn.Linear(n_features, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 1),
    )


def iterate_minibatches(x, y, batch_size):
    permutation = torch.randperm(len(x))
    for start in range(0, len(x), batch_size):
        batch = permutation[start : start + batch_size]
        yield x[batch], y[batch]


def predict(model, x):
    model.eval()
    with torch.no_grad():
        return model(x)


def run_fold(fold, X, y, train_index, val_index):
    torch.manual_seed(SEED + fold)
    x_scaler = StandardScaler().fit(X[train_index])
    y_scaler = StandardScaler().fit(y[train_index])

    x_train = torch.tensor(x_scaler.transform(X[train_index]), dtype=torch.float32)
    y_train = torch.tensor(y_scaler.transform(y[train_index]), dtype=torch.float32)
    x_val = torch.tensor(x_scaler.transform(X[val_index]), dtype=torch.float32)
    y_val = torch.tensor(y_scaler.transform(y[val_index]), dtype=torch.float32)

    model = build_model(X.shape[1])
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=15, gamma=0.3)

    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x_batch, y_batch in iterate_minibatches(x_train, y_train, BATCH_SIZE):
            optimizer.zero_grad()
            loss = loss_fn(model(x_batch), y_batch)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x_batch)
        scheduler.step()

        val_loss = loss_fn(predict(model, x_val), y_val).item()
        val_rmse = val_loss**0.5 * y_scaler.scale_[0]
        print(f"fold {fold} epoch {epoch + 1:2d}  train mse {total / len(x_train):.4f}  "
              f"val mse {val_loss:.4f}  val rmse {val_rmse:.2f} thousand")

    predictions = y_scaler.inverse_transform(predict(model, x_val).numpy())
    truth = y[val_index]
    return {
        "rmse": float(np.sqrt(np.mean((predictions - truth) ** 2))),
        "mae": float(mean_absolute_error(truth, predictions)),
        "r2": float(r2_score(truth, predictions)),
    }


def main():
    np.random.seed(SEED)
    features, price = houses(count=5000, seed=0)
    X = features.numpy().astype(np.float64)
    y = price.numpy().astype(np.float64).reshape(-1, 1)
    print(f"{len(X)} houses, mean price {y.mean():.1f}, standard deviation {y.std():.1f}")

    kfold = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)
    results = []
    for fold, (train_index, val_index) in enumerate(kfold.split(X), start=1):
        result = run_fold(fold, X, y, train_index, val_index)
        results.append(result)
        print(f"== fold {fold}: rmse {result['rmse']:.2f}, mae {result['mae']:.2f}, r2 {result['r2']:.4f}")

    for name in ("rmse", "mae", "r2"):
        values = [result[name] for result in results]
        print(f"{name}: {np.mean(values):.4f} +/- {np.std(values):.4f}")


if __name__ == "__main__":
    main()
