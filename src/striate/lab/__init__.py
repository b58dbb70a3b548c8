"""The web page: build networks, watch them at work, train them, on this machine only."""
