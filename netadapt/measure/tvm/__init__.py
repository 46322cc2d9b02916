"""Runtime `tvm`: models compiled ahead for a device, with CPU schedules of our own."""
