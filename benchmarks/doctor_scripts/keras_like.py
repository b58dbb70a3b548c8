import torch
from torch import nn
from toydata import Digits


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))

    def forward(self, x):
        return self.layers(x)

    def compile(self, optimizer, loss):
        self.optimizer = optimizer
        self.loss = loss

    def fit(self, x, y, batch_size, epochs, validation_data):
        for epoch in range(epochs):
            self.train()
            order = torch.randperm(len(x))
            running = []
            for start in range(0, len(x), batch_size):
                index = order[start : start + batch_size]
                self.optimizer.zero_grad()
                loss = self.loss(self(x[index]), y[index])
                loss.backward()
                self.optimizer.step()
                running.append(loss.item())
            val_loss, val_acc = self.evaluate(*validation_data)
            print(
                f"Epoch {epoch + 1}/{epochs} - loss: {sum(running) / len(running):.4f} - val_loss: {val_loss:.4f} "
                f"- val_accuracy: {val_acc:.4f}"
            )

    def evaluate(self, x, y):
        self.eval()
        with torch.no_grad():
            output = self(x)
        return self.loss(output, y).item(), (output.argmax(dim=1) == y).float().mean().item()


torch.manual_seed(0)
train_set, test_set = Digits(train=True), Digits(train=False)
x_train, y_train = train_set.data.float() / 255.0, train_set.targets
x_test, y_test = test_set.data.float() / 255.0, test_set.targets

model = Model()
model.compile(torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss())
model.fit(x_train, y_train, batch_size=32, epochs=6, validation_data=(x_test, y_test))
print(model.evaluate(x_test, y_test))
