"""A trained network as a file that other programs run: a format a file, and one line in `formats`."""
