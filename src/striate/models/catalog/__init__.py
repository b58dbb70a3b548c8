"""The zoo as tables: one file a group of families, each a tuple of entries. Free of torch."""
