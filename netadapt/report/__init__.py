"""Reports: a run or benchmark results as one HTML page that needs no network, and its figures as files."""
