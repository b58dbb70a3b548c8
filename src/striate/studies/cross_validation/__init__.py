"""`--cv 5x5`: repeated trainings on other samples, each measured on samples that it has not seen."""
