"""The page Labels: samples with doubtful labels or unsure predictions; corrections are written into a table."""
