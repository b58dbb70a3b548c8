# coding: utf-8
# # LeNet on textures

# In[1]:
import numpy as np
import torch
from torch import nn
from torch.utils import data

torch.manual_seed(0)


# In[2]: six folders of pictures, one after the other
classes = ['vertical', 'horizontal', 'diagonal', 'checker', 'dots', 'rings']
size, num_train, num_test = 20, 200, 45


def render(kind, rng):
    v, u = np.mgrid[:size, :size] + rng.uniform(0, 8, (2, 1, 1))
    k = 2 * np.pi / rng.uniform(4, 8)
    if kind == 'vertical':
        pattern = np.sin(k * u) > 0
    elif kind == 'horizontal':
        pattern = np.sin(k * v) > 0
    elif kind == 'diagonal':
        pattern = np.sin(0.7 * k * (u + v)) > 0
    elif kind == 'checker':
        pattern = np.sin(k * u) * np.sin(k * v) > 0
    elif kind == 'dots':
        pattern = (np.sin(k * u) > 0.1) & (np.sin(k * v) > 0.1)
    else:
        y, x = np.mgrid[:size, :size] - rng.uniform(5, size - 5, (2, 1, 1))
        pattern = np.sin(k * np.hypot(x, y)) > 0
    dark, light = rng.uniform(0, 0.5, 3), rng.uniform(0.5, 1, 3)
    image = np.where(pattern[..., None], light, dark)
    return image + 0.3 * rng.standard_normal(image.shape)


def read_folders(count, seed):
    rng = np.random.default_rng(seed)
    images = np.stack([render(kind, rng) for kind in classes for _ in range(count)])
    labels = np.repeat(np.arange(len(classes)), count)
    X = torch.from_numpy(images).float().permute(0, 3, 1, 2)
    return (X - 0.5) / 0.25, torch.from_numpy(labels)


def load_array(data_arrays, batch_size, is_train=True):
    """Construct a PyTorch data iterator."""
    dataset = data.TensorDataset(*data_arrays)
    return data.DataLoader(dataset, batch_size, shuffle=is_train)


batch_size = 64
train_iter = load_array(read_folders(num_train, seed=1), batch_size)
test_iter = load_array(read_folders(num_test, seed=2), batch_size, is_train=False)


# In[3]:
net = nn.Sequential(
    nn.Conv2d(3, 16, kernel_size=5, padding=2), nn.ReLU(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Conv2d(16, 32, kernel_size=5), nn.ReLU(),
    nn.MaxPool2d(kernel_size=2, stride=2),
    nn.Flatten(),
    nn.Linear(32 * 3 * 3, 120), nn.ReLU(),
    nn.Linear(120, 84), nn.ReLU(),
    nn.Linear(84, len(classes)))

X = torch.rand(size=(1, 3, size, size), dtype=torch.float32)
for layer in net:
    X = layer(X)
    print(layer.__class__.__name__, 'output shape: \t', X.shape)


# In[4]:
class Accumulator:
    """For accumulating sums over `n` variables."""
    def __init__(self, n):
        self.data = [0.0] * n

    def add(self, *args):
        self.data = [a + float(b) for a, b in zip(self.data, args)]

    def __getitem__(self, idx):
        return self.data[idx]


def accuracy(y_hat, y):
    """Compute the number of correct predictions."""
    return float((y_hat.argmax(axis=1) == y).sum())


def evaluate_accuracy(net, data_iter):
    """Compute the accuracy for a model on a dataset."""
    net.eval()
    metric = Accumulator(2)
    with torch.no_grad():
        for X, y in data_iter:
            metric.add(accuracy(net(X), y), y.numel())
    return metric[0] / metric[1]


# In[5]:
def train_ch6(net, train_iter, test_iter, num_epochs, lr):
    def init_weights(m):
        if type(m) == nn.Linear or type(m) == nn.Conv2d:
            nn.init.xavier_uniform_(m.weight)
    net.apply(init_weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    loss = nn.CrossEntropyLoss()
    for epoch in range(num_epochs):
        metric = Accumulator(3)
        net.train()
        for X, y in train_iter:
            optimizer.zero_grad()
            y_hat = net(X)
            l = loss(y_hat, y)
            l.backward()
            optimizer.step()
            with torch.no_grad():
                metric.add(l * X.shape[0], accuracy(y_hat, y), X.shape[0])
        train_l = metric[0] / metric[2]
        train_acc = metric[1] / metric[2]
        test_acc = evaluate_accuracy(net, test_iter)
        print(f'epoch {epoch + 1}, loss {train_l:.3f}, train acc {train_acc:.3f}, test acc {test_acc:.3f}')


# In[6]:
lr, num_epochs = 0.05, 20
train_ch6(net, train_iter, test_iter, num_epochs, lr)


# In[7]:
def predict(net, test_iter, n=6):
    X, y = next(iter(test_iter))
    trues = [classes[int(i)] for i in y[:n]]
    with torch.no_grad():
        preds = [classes[int(i)] for i in net(X[:n]).argmax(axis=1)]
    print([f'{true} -> {pred}' for true, pred in zip(trues, preds)])


predict(net, test_iter)
