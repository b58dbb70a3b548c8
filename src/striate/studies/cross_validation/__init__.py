"""`--cv 5x5`: the same training on other samples, each measured on what it has not seen."""
