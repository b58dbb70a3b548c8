"""What a network does, as plain records, for any `nn.Module`. `passes` records the outputs of each layer; each of the
other modules has one kind of record with its figure. The network stays as it is."""
