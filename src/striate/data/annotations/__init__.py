"""What a sample is annotated with: one file a kind of annotation."""
