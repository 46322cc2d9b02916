"""Setting up the simulator: everything it needs besides QEMU and a C compiler lies below the user's cache folder."""

from netadapt.measure.simulator.install.guest_root import guest_root
from netadapt.measure.simulator.install.installation import Installation, installed, missing, require, set_up

__all__ = ["Installation", "guest_root", "installed", "missing", "require", "set_up"]
