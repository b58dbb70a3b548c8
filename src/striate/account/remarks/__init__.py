"""What a good teacher would say about a network."""
