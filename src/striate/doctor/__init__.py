"""Finds out why a network does not learn: shared measurements, one check a file, causes separated from symptoms."""
