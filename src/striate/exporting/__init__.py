"""Export trained networks as files that other programs run. Each format has a module, and one line in `formats`."""
