"""House prices from eight features: a multilayer perceptron, standardized target, stochastic weight averaging at the end."""

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel

from toydata import houses

EPOCHS, SWA_START, BATCH = 45, 33, 64


class Standardizer:
    """Mean and deviation of the training set."""

    def __init__(self, values):
        self.mean, self.std = values.mean(dim=0), values.std(dim=0)

    def __call__(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


class Regressor(nn.Module):
    def __init__(self, features, width=96):
        super().__init__()
        self.inputs = nn.Linear(features, width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 1)
        self.activation = nn.SiLU()

    def forward(self, x):
        x = self.activation(self.inputs(x))
        x = x + self.activation(self.hidden(x))
        return self.output(x).squeeze(-1)


def batches(*tensors, size):
    for chosen in torch.randperm(len(tensors[0])).split(size):
        yield tuple(tensor[chosen] for tensor in tensors)


@torch.no_grad()
def rmse_and_r2(model, x, price, scale):
    model.eval()
    predicted = scale.inverse(model(x))
    error = (predicted - price).pow(2).mean()
    return error.sqrt().item(), (1 - error / price.var(unbiased=False)).item()


def main():
    torch.manual_seed(77)
    features, price = houses(count=3500, seed=201)
    order = torch.randperm(len(features))
    train, val, test = order[:2700], order[2700:3100], order[3100:]

    x_scale, y_scale = Standardizer(features[train]), Standardizer(price[train])
    x, y = x_scale(features), y_scale(price)

    model = Regressor(features.shape[1])
    averaged = AveragedModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=SWA_START, eta_min=1e-3)
    criterion = nn.MSELoss()

    for epoch in range(EPOCHS):
        if epoch == SWA_START:
            flat = SWALR(optimizer, swa_lr=1e-3, anneal_epochs=2)
        model.train()
        total = torch.zeros(())
        for inputs, targets in batches(x[train], y[train], size=BATCH):
            loss = criterion(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(inputs)
        if epoch >= SWA_START:
            averaged.update_parameters(model)
            flat.step()
        else:
            cosine.step()
        if epoch % 5 == 4:
            rmse, r2 = rmse_and_r2(model, x[val], price[val], y_scale)
            print(f"epoch {epoch + 1}: train mse {total.item() / len(train):.4f}  val rmse {rmse:.2f}  R2 {r2:.4f}")

    # no batch norm in it, so that no statistics have to be taken anew
    for name, indices in (("val", val), ("test", test)):
        rmse, r2 = rmse_and_r2(averaged, x[indices], price[indices], y_scale)
        print(f"averaged weights, {name}: rmse {rmse:.2f} thousand  R2 {r2:.4f}")


if __name__ == "__main__":
    main()
