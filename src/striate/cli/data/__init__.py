"""`striate data …`: one verb a file."""
