"""Stage one: a small hybrid ViT fills in hidden patches. Stage two: it learns to name digits. With Accelerate."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

PATCH, GRID, DIM = 4, 4, 64


class Encoder(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, DIM, 3, stride=2, padding=1)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, GRID * GRID, DIM))
        layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, dropout=0.1, activation="gelu", batch_first=True,
                                           norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)

    def forward(self, images):
        return self.blocks(self.stem(images).flatten(2).transpose(1, 2) + self.position)


class MaskedModel(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.fill = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(DIM, PATCH * PATCH)

    def forward(self, images, hidden):
        """hidden: (batch, 16), true where a patch is covered; the loss counts these only."""
        cover = hidden.view(-1, 1, GRID, GRID).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        predicted = self.head(self.encoder(torch.where(cover, self.fill, images)))
        patches = F.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
        return (predicted - patches).pow(2).mean(2)[hidden].mean()


class Classifier(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(DIM, 10)

    def forward(self, images):
        return self.head(self.encoder(images).mean(1))


def random_hidden(count, share=0.4):
    order = torch.rand(count, GRID * GRID).argsort(1)
    return order < int(share * GRID * GRID)


def pretrain(accelerator, loader, valid_images, epochs):
    model = MaskedModel(Encoder())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    valid_hidden = random_hidden(len(valid_images))
    for epoch in range(epochs):
        model.train()
        total, count = 0.0, 0
        for images, _ in loader:
            with accelerator.accumulate(model):
                loss = model(images, random_hidden(len(images)))
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                optimizer.zero_grad()
            total += loss.item() * len(images)
            count += len(images)
        model.eval()
        with torch.no_grad():
            valid = model(valid_images, valid_hidden).item()
        accelerator.print(f"pretraining {epoch}: hidden patches, mse {total / count:.4f} valid {valid:.4f}")
    return accelerator.unwrap_model(model)


def finetune(accelerator, pretrained, loader, valid_loader, epochs):
    model = Classifier(Encoder())
    model.encoder.load_state_dict(pretrained.encoder.state_dict())
    optimizer = torch.optim.AdamW(
        [{"params": model.encoder.parameters(), "lr": 1e-3}, {"params": model.head.parameters(), "lr": 4e-3}],
        weight_decay=0.02,
    )
    updates = epochs * len(loader) // accelerator.gradient_accumulation_steps
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * max(0.02, 1 - step / updates)
    )
    model, optimizer, loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, loader, valid_loader, scheduler
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        model.train()
        for images, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(criterion(model(images), labels))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

        model.eval()
        right = count = 0
        for images, labels in valid_loader:
            with torch.no_grad():
                predictions = model(images).argmax(dim=-1)
            predictions, labels = accelerator.gather_for_metrics((predictions, labels))
            right += (predictions == labels).sum().item()
            count += len(labels)
        accelerator.print(f"fine-tuning {epoch}: accuracy {right / count:.4f} lr {scheduler.get_last_lr()[0]:.5f}")


def main():
    set_seed(21)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)

    def prepare(count, seed):
        images, labels = draw_digits(count, seed=seed)
        return (images.float() / 255 - 0.17) / 0.27, labels

    images, labels = prepare(2048, 0)
    valid_images, valid_labels = prepare(400, 1)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    valid_loader = DataLoader(TensorDataset(valid_images, valid_labels), batch_size=100)
    pretrained = pretrain(accelerator, loader, valid_images, epochs=10)
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    finetune(accelerator, pretrained, loader, valid_loader, epochs=16)


if __name__ == "__main__":
    main()
