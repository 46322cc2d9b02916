"""The look-up table: its store, filling it, and predicting from it."""
