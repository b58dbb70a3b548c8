"""What the machine is and does: memory, load, allocator, rates; knows nothing of networks."""
