import os
import tempfile

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from toydata import Shapes


def setup():
    store = tempfile.NamedTemporaryFile(delete=False)
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    dist.init_process_group("gloo", init_method=f"file://{store.name}", rank=rank, world_size=world_size)
    return rank


class Trainer:
    def __init__(self, model, train_data, val_data, optimizer, rank, batch_size):
        self.rank = rank
        self.model = DDP(model)
        self.optimizer = optimizer
        self.sampler = DistributedSampler(train_data)
        self.train_data = DataLoader(train_data, batch_size=batch_size, shuffle=False, sampler=self.sampler)
        self.val_data = DataLoader(val_data, batch_size=60)
        self.loss_fn = nn.CrossEntropyLoss()

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        output = self.model(source)
        loss = self.loss_fn(output, targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _run_epoch(self, epoch):
        self.sampler.set_epoch(epoch)
        self.model.train()
        for source, targets in self.train_data:
            loss = self._run_batch(source, targets)
        print(f"[rank {self.rank}] Epoch {epoch} | Steps: {len(self.train_data)} | loss {loss:.3f}")

    def _validate(self):
        self.model.eval()
        correct = total = 0
        with torch.no_grad():
            for source, targets in self.val_data:
                correct += (self.model(source).argmax(dim=1) == targets).sum().item()
                total += len(targets)
        print(f"validation accuracy {correct / total:.3f}")

    def train(self, max_epochs):
        for epoch in range(max_epochs):
            self._run_epoch(epoch)
            self._validate()


def main():
    rank = setup()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 6),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    Trainer(model, Shapes(train=True), Shapes(train=False), optimizer, rank, batch_size=32).train(5)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
