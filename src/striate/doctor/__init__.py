"""Why a network does not learn: evidence gathered once, one check a file, causes told from symptoms."""
