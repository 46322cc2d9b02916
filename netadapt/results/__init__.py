"""Results of benchmark cases: what a file holds, whether it can be trusted, and how two of them compare."""
