"""What a good practitioner would run: one recipe a file, and `decide`, which fills in what a user left open."""
