"""NetAdapt's search: Algorithm 1 with its budget, proposals, selection, executors and run folder."""
