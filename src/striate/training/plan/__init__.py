"""The execution plan of training: ways to compute the same step, timed, checked against plain fp32, and chosen from."""
