"""Networks and loops with one planted fault each, and healthy ones, written as different people write them."""
