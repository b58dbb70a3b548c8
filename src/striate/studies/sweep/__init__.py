"""`striate sweep`: a search over configurations, from cheap trainings to expensive ones."""
