"""What a run on a simulated core costs, as a measurement of any platform that has a core."""

from __future__ import annotations

from netadapt.errors import MeasurementError
from netadapt.measure.device import Device
from netadapt.measure.measurement import UNITS, Measurement, Provenance
from netadapt.measure.platform import Platform
from netadapt.measure.simulator.core import Core
from netadapt.measure.simulator.counts import Counts
from netadapt.measure.simulator.energy import energy_pj, latency_ns
from netadapt.measure.simulator.install import Installation

#: Largest share of executed instructions that may be of a form that the core's table lacks.
MOST_UNMODELLED = 0.001


def simulated_costs(platform: Platform, core: Core, counts: Counts, provenance: Provenance) -> dict[str, Measurement]:
    """Turn counts into one measurement for each metric of the platform.

    Raises:
        MeasurementError: more than `MOST_UNMODELLED` of the instructions have no numbers.

    """
    require_modelled(counts, core)
    values = {"latency": round(latency_ns(core, counts.cycles)), "energy": energy_pj(core, counts)}
    return {
        metric: Measurement(
            metric=metric,
            unit=UNITS[metric],
            value=values[metric],
            minimum=values[metric],
            median=values[metric],
            mad=0,
            samples=1,
            clean_fraction=1.0,
            relative_half_width=0.0,
            status="converged",
            tier=platform.tier,
            provenance=provenance,
        )
        for metric in platform.metrics
    }


def simulated_provenance(
    device: Device, core: Core, installation: Installation, distribution: str, form: str
) -> Provenance:
    """Where the costs come from.

    Args:
        device: what tells them.
        core: the core that is simulated.
        installation: what the guest runs.
        distribution: the wheel of the guest's runtime.
        form: what ran, such as "model" or "operation".

    """
    versions = installation.versions
    return device.provenance(
        form,
        runtime=distribution,
        runtime_version=versions[distribution],
        machine_name=core.title,
        cores=1,
        system=f"QEMU {versions['qemu']}, libc6 {versions['libc6']}",
    )


def require_modelled(counts: Counts, core: Core) -> None:
    """Raise MeasurementError when more than `MOST_UNMODELLED` of the instructions have no numbers."""
    if counts.unmodelled_share <= MOST_UNMODELLED:
        return
    worst = sorted(counts.unmodelled.items(), key=lambda item: -item[1])
    raise MeasurementError(
        f"{counts.unmodelled_share:.2%} of the executed instructions are of forms that {core.name} has no numbers for"
        f" (at most {MOST_UNMODELLED:.1%} may be); add them to its corrections or table: "
        + ", ".join(f"{form!r} ({count} times)" for form, count in worst[:10])
    )
