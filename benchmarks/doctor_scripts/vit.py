import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader
from toydata import Shapes


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        attn = (q @ k.transpose(-1, -2) * self.scale).softmax(dim=-1)
        return self.to_out((attn @ v).transpose(1, 2).reshape(b, n, d))


class ViT(nn.Module):
    def __init__(self, image_size=16, patch_size=4, num_classes=6, dim=48, depth=2, heads=4):
        super().__init__()
        self.patch_size = patch_size
        num_patches = (image_size // patch_size) ** 2
        self.to_patch_embedding = nn.Linear(3 * patch_size**2, dim)
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, num_patches + 1, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(
            [
                nn.ModuleList(
                    [
                        Attention(dim, heads),
                        nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)),
                    ]
                )
                for _ in range(depth)
            ]
        )
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))

    def forward(self, img):
        patches = F.unfold(img, self.patch_size, stride=self.patch_size).transpose(1, 2)
        x = self.to_patch_embedding(patches)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for attn, ff in self.blocks:
            x = attn(x) + x
            x = ff(x) + x
        return self.mlp_head(x[:, 0])


def run(epochs=8, lr=2e-3, batch_size=32):
    torch.manual_seed(42)
    normalize = lambda image: (image - 0.5) / 0.2
    train_loader = DataLoader(Shapes(train=True, transform=normalize), batch_size=batch_size, shuffle=True)
    valid_loader = DataLoader(Shapes(train=False, transform=normalize), batch_size=batch_size)
    model = ViT()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    warmup = optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20)
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader) - 20)
    scheduler = optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[20])
    for epoch in range(epochs):
        model.train()
        epoch_loss = epoch_accuracy = 0
        for data, label in train_loader:
            output = model(data)
            loss = criterion(output, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            acc = (output.argmax(dim=1) == label).float().mean()
            epoch_accuracy += acc / len(train_loader)
            epoch_loss += loss / len(train_loader)
        model.eval()
        with torch.no_grad():
            right = sum((model(data).argmax(dim=1) == label).sum().item() for data, label in valid_loader)
        print(
            f"Epoch : {epoch + 1} - loss : {epoch_loss:.4f} - acc: {epoch_accuracy:.4f} "
            f"- val_acc: {right / len(valid_loader.dataset):.4f}"
        )


if __name__ == "__main__":
    run()
