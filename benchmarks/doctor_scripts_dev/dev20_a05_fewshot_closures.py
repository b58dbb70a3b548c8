"""Prototypical networks (Snell et al., 2017) on made-up glyphs: 5 ways, 5 shots, classes never seen in training."""

import torch
import torch.nn as nn
import torch.nn.functional as F

WAY, SHOT, QUERY = 5, 5, 10
EPOCHS, EPISODES, VALID_EPISODES = 12, 60, 60


def draw_glyphs(classes, samples, seed):
    """Symmetric 5 x 5 patterns, twice as large, moved about, of various brightness: (classes, samples, 1, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(classes, samples, 1, 16, 16)
    for c in range(classes):
        half = torch.zeros(15)
        half[torch.randperm(15, generator=generator)[:8]] = 1.0
        half = half.view(5, 3)
        pattern = torch.cat([half, half[:, :2].flip(1)], dim=1)
        pattern = pattern.repeat_interleave(2, 0).repeat_interleave(2, 1)
        for s in range(samples):
            top, left = torch.randint(1, 6, (2,), generator=generator).tolist()
            ink = 0.6 + 0.4 * torch.rand((), generator=generator)
            images[c, s, 0, top : top + 10, left : left + 10] = ink * pattern
    images += 0.15 * torch.randn(images.shape, generator=generator)
    return (images - images.mean()) / images.std()


def split_classes(images, seed):
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train_classes, valid_classes, test_classes = order[:50], order[50:65], order[65:]
    return images[train_classes], images[valid_classes], images[test_classes]


def make_sampler(images, seed):
    """Returns a function that draws an episode: support and query, each one class after the other."""
    generator = torch.Generator().manual_seed(seed)

    def sample():
        classes = torch.randperm(len(images), generator=generator)[:WAY]
        support, query = [], []
        for c in classes.tolist():
            chosen = torch.randperm(images.shape[1], generator=generator)[: SHOT + QUERY]
            support.append(images[c, chosen[:SHOT]])
            query.append(images[c, chosen[SHOT:]])
        labels = torch.arange(WAY).repeat_interleave(QUERY)
        return torch.cat(support), torch.cat(query), labels

    return sample


def make_network():
    def block(inputs, outputs):
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(*block(1, 32), *block(32, 48), *block(48, 64), nn.Flatten(), nn.Linear(256, 64))


def squared_distances(a, b):
    return (a.unsqueeze(1) - b.unsqueeze(0)).pow(2).sum(dim=2)


def make_episode_loss(network):
    """Returns a function from an episode to its loss and its accuracy."""

    def episode_loss(support, query, labels):
        embedded = network(torch.cat([support, query]))
        prototypes = embedded[: len(support)].view(WAY, SHOT, -1).mean(dim=1)
        distances = squared_distances(embedded[len(support) :], prototypes)
        loss = F.cross_entropy(-distances, labels)
        accuracy = (distances.argmin(dim=1) == labels).float().mean().item()
        return loss, accuracy

    return episode_loss


def main():
    torch.manual_seed(5)
    torch.set_num_threads(1)
    train_images, valid_images, test_images = split_classes(draw_glyphs(80, 30, seed=21), seed=22)
    network = make_network()
    episode_loss = make_episode_loss(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    draw_training_episode = make_sampler(train_images, seed=0)

    def train_epoch():
        network.train()
        total_loss = total_accuracy = 0.0
        for _ in range(EPISODES):
            loss, accuracy = episode_loss(*draw_training_episode())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_accuracy += accuracy
        scheduler.step()
        return total_loss / EPISODES, total_accuracy / EPISODES

    @torch.no_grad()
    def evaluate(images):
        network.eval()
        draw_episode = make_sampler(images, seed=99)  # the same episodes each time
        results = [episode_loss(*draw_episode()) for _ in range(VALID_EPISODES)]
        return sum(accuracy for _, accuracy in results) / len(results)

    for epoch in range(EPOCHS):
        loss, accuracy = train_epoch()
        print(
            f"epoch {epoch:2d} | train loss {loss:.3f} accuracy {accuracy:.3f} | "
            f"new classes {evaluate(valid_images):.3f} | lr {scheduler.get_last_lr()[0]:.1e}"
        )
    print(f"test classes: {evaluate(test_images):.3f}")


if __name__ == "__main__":
    main()
