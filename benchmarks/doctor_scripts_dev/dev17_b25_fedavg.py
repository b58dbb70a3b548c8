"""Federated averaging (McMahan et al., 2017) of ten clients whose digits are unevenly distributed."""

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from toydata import draw_digits

ARGS = dict(
    num_clients=10,
    clients_per_round=5,
    rounds=20,
    local_epochs=2,
    local_batch_size=20,
    lr=0.05,
    momentum=0.9,
    dirichlet_alpha=1.0,
    seed=0,
)


def load(count, seed):
    images, labels = draw_digits(count, seed=seed)
    return TensorDataset((images.float() / 255 - 0.25) / 0.35, labels)


def dirichlet_partition(labels, num_clients, alpha, rng):
    """Each class is shared among the clients in proportions drawn from a Dirichlet distribution."""
    parts = [[] for _ in range(num_clients)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(num_clients, alpha))
        cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, chunk in zip(parts, np.split(rows, cuts)):
            part.extend(chunk.tolist())
    return parts


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, 32)
        self.fc = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2)
        return self.fc(x.flatten(1))


class Client:
    def __init__(self, dataset, args):
        self.args = args
        self.num_samples = len(dataset)
        self.loader = DataLoader(dataset, batch_size=args["local_batch_size"], shuffle=True)
        self.criterion = nn.CrossEntropyLoss()

    def update(self, global_model, lr):
        model = copy.deepcopy(global_model)
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=self.args["momentum"])
        total, seen = 0.0, 0
        for _ in range(self.args["local_epochs"]):
            for images, labels in self.loader:
                optimizer.zero_grad()
                loss = self.criterion(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
                seen += len(labels)
        return model.state_dict(), total / seen


class Server:
    def __init__(self, clients, val_loader, args):
        self.clients, self.val_loader, self.args = clients, val_loader, args
        self.model = CNN()
        self.rng = np.random.default_rng(args["seed"])

    def aggregate(self, states, sizes):
        total = sum(sizes)
        average = {
            name: sum(state[name] * (size / total) for state, size in zip(states, sizes)) for name in states[0]
        }
        self.model.load_state_dict(average)

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        loss, correct, count = 0.0, 0, 0
        for images, labels in loader:
            logits = self.model(images)
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
        return loss / count, correct / count

    def run(self):
        for round_number in range(1, self.args["rounds"] + 1):
            lr = self.args["lr"] * 0.95 ** (round_number - 1)
            chosen = self.rng.choice(len(self.clients), self.args["clients_per_round"], replace=False)
            states, sizes, losses = [], [], []
            for index in chosen:
                state, loss = self.clients[index].update(self.model, lr)
                states.append(state)
                sizes.append(self.clients[index].num_samples)
                losses.append(loss)
            self.aggregate(states, sizes)
            val_loss, val_acc = self.evaluate(self.val_loader)
            print(
                f"round {round_number:2d}: local loss {np.average(losses, weights=sizes):.4f}, "
                f"global val loss {val_loss:.4f}, val acc {val_acc:.4f}"
            )


def main(args):
    torch.manual_seed(args["seed"])
    train_set, val_set, test_set = load(2000, seed=0), load(400, seed=1), load(400, seed=2)
    rng = np.random.default_rng(args["seed"])
    parts = dirichlet_partition(train_set.tensors[1].numpy(), args["num_clients"], args["dirichlet_alpha"], rng)
    print("samples per client:", [len(part) for part in parts])
    clients = [Client(Subset(train_set, part), args) for part in parts]
    server = Server(clients, DataLoader(val_set, batch_size=200), args)
    server.run()
    loss, accuracy = server.evaluate(DataLoader(test_set, batch_size=200))
    print(f"test loss {loss:.4f}, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(ARGS)
