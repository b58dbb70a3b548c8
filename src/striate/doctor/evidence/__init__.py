"""What is measured of a training setup, once, and shared by all checks."""
