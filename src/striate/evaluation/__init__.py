"""How good a network is, honestly: metrics with intervals, of which data, on how many samples."""
