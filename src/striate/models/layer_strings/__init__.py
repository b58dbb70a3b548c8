"""From the text of a layer string to a network."""
