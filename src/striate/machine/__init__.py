"""The machine: memory, load, allocator, rates; knows nothing of networks."""
