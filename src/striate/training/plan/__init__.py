"""The execution plan of training: candidates are timed, checked against plain fp32, and one is chosen."""
