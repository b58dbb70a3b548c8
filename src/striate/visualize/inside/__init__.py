"""What a network does, as plain records of any `nn.Module`: `passes` (what each layer gives), then a question a file.
How each is drawn is in `figures`. Nothing here changes the network."""
