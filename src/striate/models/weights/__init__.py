"""Pretrained weights: read files, recognize their network, load them into a network, replace its head."""
