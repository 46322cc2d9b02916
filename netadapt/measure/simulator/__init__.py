"""Simulated Arm cores: the aarch64 binary of a runtime under QEMU, whose plugin counts the cycles of a core."""
