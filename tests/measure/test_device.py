"""Opening platforms and their fallbacks."""

from __future__ import annotations

import pytest

from netadapt.errors import MeasurementError, UnknownNameError
from netadapt.measure import ort
from netadapt.measure.device import open_device
from netadapt.measure.platform import load_platform


@pytest.fixture
def broken(monkeypatch):
    """A platform that is never available."""
    original = ort.open_device

    def open_unless_broken(platform, requested, on_wait):
        if platform.name == "broken":
            raise MeasurementError("no board attached")
        return original(platform, requested, on_wait)

    monkeypatch.setattr(ort, "open_device", open_unless_broken)
    return load_platform("ort-local").model_copy(update={"name": "broken"})


def test_without_fallback_the_reason_is_told(broken):
    with pytest.raises(MeasurementError, match="no board attached"):
        open_device(broken)


def test_a_fallback_is_loud_and_recorded(broken):
    from small_models import relu

    told = []
    wanted = broken.model_copy(update={"fallback": ("ort-local",)})
    with open_device(wanted, on_fallback=lambda *what: told.append(what)) as device:
        source = device.measure(relu()).provenance
    assert told == [("broken", "no board attached", "ort-local")]
    assert (source.platform, source.requested) == ("ort-local", "broken")


def test_an_unknown_fallback_is_an_error(broken):
    with pytest.raises(UnknownNameError, match="absent"):
        open_device(broken.model_copy(update={"fallback": ("absent",)}))


def test_all_fallbacks_fail(broken, monkeypatch):
    monkeypatch.setattr("netadapt.measure.device.load_platform", lambda name: broken)
    with pytest.raises(MeasurementError, match="broken is not available: no board attached; fallback other: no board"):
        open_device(broken.model_copy(update={"fallback": ("other",)}))
