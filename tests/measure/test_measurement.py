from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.errors import MeasurementError
from netadapt.measure.measurement import STATUSES, TIERS, Measurement, Provenance

PROVENANCES = st.builds(
    Provenance,
    **{name: st.text(max_size=8) for name in ("platform", "requested", "fingerprint", "netadapt", "runtime", "os")},
    **{name: st.text(max_size=8) for name in ("runtime_version", "machine", "date", "form")},
    protocol_version=st.integers(1, 9),
    cores=st.integers(1, 64),
    commit=st.none() | st.text(max_size=8),
)
MEASUREMENTS = st.builds(
    Measurement,
    metric=st.just("latency"),
    unit=st.just("ns"),
    **{name: st.integers(0, 10**12) for name in ("value", "minimum", "median", "mad", "samples")},
    clean_fraction=st.floats(0, 1),
    relative_half_width=st.none() | st.floats(0, 1),
    status=st.sampled_from(STATUSES),
    tier=st.sampled_from(TIERS),
    provenance=PROVENANCES,
)


@given(MEASUREMENTS)
def test_json_there_and_back(measurement):
    assert Measurement.from_json(measurement.to_json()) == measurement
    assert Measurement.from_json(measurement.to_json()).to_json() == measurement.to_json()


@given(MEASUREMENTS)
def test_json_is_strict_json(measurement):
    json.loads(measurement.to_json(), parse_constant=lambda text: pytest.fail(text))


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"provenance": {}}', "null"])
def test_other_texts_are_refused(text):
    with pytest.raises(MeasurementError, match="not a measurement"):
        Measurement.from_json(text)
