"""How the records of `striate.visualize.inside` are drawn: on an `ax`, or as a whole figure."""
