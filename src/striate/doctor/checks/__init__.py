"""One check a file: each asks one question of the evidence and gives findings."""
