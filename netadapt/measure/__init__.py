"""What a model costs: platform definitions, runtimes, and the measuring protocol."""
