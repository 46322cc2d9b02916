"""The data sets there are. Needs neither numpy nor torch, so that the command line can list them at once."""

from __future__ import annotations

DATASETS = ("fashion-mnist-mini", "fashion-mnist", "cifar10:PATH", "folder:PATH[,resize=crop|pad|squash]")
