"""`striate sweep`: a search over configurations, from cheap to expensive."""
