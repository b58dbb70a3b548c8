"""What a network does, as plain records of any `nn.Module`: `passes` (the outputs of each layer), then one question a
file, with the figure that shows its record. Nothing here changes the network."""
