"""Marks by which a program in the guest tells the timing plugin what to do; the numbers are those of plugin/marks.h."""

import ctypes

BEGIN = ctypes.c_long(0x4D4B0001)
END = ctypes.c_long(0x4D4B0002)
WARM_UP = ctypes.c_long(0x4D4B0003)
EMPTY = ctypes.c_long(0x4D4B0004)
CLOCK = ctypes.c_long(0x4D4B0005)
RELEASE = ctypes.c_long(0x4D4B0006)

#: A system call that no kernel has: it fails at once, but the plugin has seen it.
mark = ctypes.CDLL(None).syscall
mark.argtypes = [ctypes.c_long]
