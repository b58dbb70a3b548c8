"""The recipes, one per file, and `decide`, which fills in what a user left open."""
