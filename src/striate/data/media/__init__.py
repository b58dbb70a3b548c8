"""What a sample is: one file or folder a medium."""
