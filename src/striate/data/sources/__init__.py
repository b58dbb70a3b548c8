"""The forms in which data come, one a file; each gives the same frozen listing."""
