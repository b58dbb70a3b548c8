"""The page Labels: samples whose label is doubtful, and answers that are unsure; corrections go into a table."""
