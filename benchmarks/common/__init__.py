"""What all benchmarks share: contenders in processes of their own, interleaved repeats, results as JSON."""
