"""CRNN with CTC: reads strips of two to five handwritten-like digits without knowing where each one is."""
import itertools

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import draw_digits

ALPHABET = "0123456789"
BLANK = 0
WIDTH = 64


class LabelConverter:
    """Text to indices (0 is left to the blank) and back."""

    def __init__(self, alphabet):
        self.alphabet = "-" + alphabet
        self.table = {c: i + 1 for i, c in enumerate(alphabet)}

    def encode(self, texts):
        flat = [self.table[c] for c in itertools.chain.from_iterable(texts)]
        return torch.IntTensor(flat), torch.IntTensor([len(t) for t in texts])

    def decode(self, path):
        return "".join(self.alphabet[k] for k, _ in itertools.groupby(path) if k != BLANK)


def make_strips(count, seed):
    digits, labels = draw_digits(count * 5, seed=seed, noise=0.05, shift=1)
    generator = torch.Generator().manual_seed(100 + seed)
    samples = []
    for i in range(count):
        n = int(torch.randint(2, 6, (1,), generator=generator))
        part = slice(5 * i, 5 * i + n)
        glyphs = digits[part, 0, :, 2:14]
        strip = torch.zeros(16, WIDTH, dtype=torch.uint8)
        strip[:, : 12 * n] = torch.cat(list(glyphs), dim=1)
        samples.append((strip, "".join(ALPHABET[d] for d in labels[part].tolist()), 12 * n))
    return samples


class AlignCollate:
    def __init__(self, converter):
        self.converter = converter

    def __call__(self, batch):
        strips, texts, widths = zip(*batch)
        images = torch.stack(strips).unsqueeze(1).float().div_(255).sub_(0.2).div_(0.35)
        targets, lengths = self.converter.encode(texts)
        return images, targets, lengths, texts


class BidirectionalGRU(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.rnn = nn.GRU(n_in, n_hidden, bidirectional=True)
        self.embedding = nn.Linear(2 * n_hidden, n_out)

    def forward(self, input):
        recurrent, _ = self.rnn(input)
        T, b, h = recurrent.size()
        return self.embedding(recurrent.view(T * b, h)).view(T, b, -1)


class CRNN(nn.Module):
    def __init__(self, n_class, nc=1, nh=48):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(nc, 16, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2, 2),
            nn.Conv2d(16, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(True), nn.MaxPool2d(2, 2),
            nn.Conv2d(32, 48, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d((4, 1)))
        self.rnn = BidirectionalGRU(48, nh, n_class)

    def forward(self, input):
        conv = self.cnn(input)  # b, c, 1, w
        conv = conv.squeeze(2).permute(2, 0, 1)  # w, b, c
        return self.rnn(conv).log_softmax(2)


def weights_init(m):
    if isinstance(m, nn.Conv2d):
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def validate(crnn, loader, converter):
    crnn.eval()
    n_correct = n_total = edits = letters = 0
    with torch.no_grad():
        for images, _, _, texts in loader:
            paths = crnn(images).argmax(2).transpose(1, 0)
            for path, truth in zip(paths.tolist(), texts):
                guess = converter.decode(path)
                n_correct += guess == truth
                n_total += 1
                edits, letters = edits + edit_distance(guess, truth), letters + len(truth)
    crnn.train()
    return n_correct / n_total, edits / letters


def main():
    torch.manual_seed(2)
    converter = LabelConverter(ALPHABET)
    collate = AlignCollate(converter)
    train_loader = DataLoader(make_strips(900, 0), batch_size=32, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(make_strips(200, 1), batch_size=64, collate_fn=collate)
    crnn = CRNN(len(ALPHABET) + 1)
    crnn.apply(weights_init)
    criterion = nn.CTCLoss(blank=BLANK, zero_infinity=True)
    optimizer = torch.optim.RMSprop(crnn.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 11], gamma=0.3)
    for epoch in range(12):
        average = 0.0
        for images, targets, target_lengths, _ in train_loader:
            preds = crnn(images)
            pred_lengths = torch.full((images.size(0),), preds.size(0), dtype=torch.int32)
            cost = criterion(preds, targets, pred_lengths, target_lengths)
            crnn.zero_grad()
            cost.backward()
            nn.utils.clip_grad_norm_(crnn.parameters(), 5.0)
            optimizer.step()
            average += cost.item() / len(train_loader)
        scheduler.step()
        accuracy, cer = validate(crnn, val_loader, converter)
        print(f"[{epoch + 1}/12] loss: {average:.4f} lines right: {accuracy:.3f} character error: {cer:.3f}")


if __name__ == "__main__":
    main()
