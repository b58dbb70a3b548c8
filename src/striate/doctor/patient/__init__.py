"""What is to be diagnosed: as it was given, copied, and left as it was."""
