"""Values for the tests of the table."""

from __future__ import annotations

from netadapt.measure.measurement import Measurement, Provenance
from netadapt.measure.protocol import PROTOCOL_VERSION
from netadapt.network.workload import Workload

PLATFORM = "f" * 16


def conv(channels):
    return Workload("conv", (channels,), 8, (4, 4), bias=True)


def provenance(fingerprint=PLATFORM, **changes):
    fields = {
        "platform": "test",
        "requested": "test",
        "protocol_version": PROTOCOL_VERSION,
        "netadapt": "0.1.0",
        "runtime": "none",
        "runtime_version": "1",
        "machine": "abacus",
        "cores": 1,
        "os": "none",
        "date": "2025-01-31",
    }
    return Provenance(fingerprint=fingerprint, **{**fields, **changes})


def measurement(value=1000, fingerprint=PLATFORM, status="converged", metric="latency", **changes):
    return Measurement(
        metric=metric,
        unit={"latency": "ns", "energy": "pJ"}[metric],
        value=value,
        minimum=value - 1,
        median=value + 1,
        mad=1,
        samples=20,
        clean_fraction=0.75,
        relative_half_width=0.01,
        status=status,
        tier="local",
        provenance=provenance(fingerprint, **changes),
    )
