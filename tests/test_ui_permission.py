"""Who may change what all visitors share."""

from __future__ import annotations

import pytest
from visitors import request

from omni.settings import Settings
from omni.ui.permission import is_allowed, is_loopback


@pytest.mark.parametrize(
    ("settings", "visitor", "may"),
    [
        (Settings(), request(), True),
        (Settings(host="localhost"), request("::1"), True),
        (Settings(host="0.0.0.0"), request(), False),
        (Settings(host="192.168.1.5"), request(), False),
        (Settings(share=True), request(), False),
        (Settings(), request("10.0.0.7"), False),
        (Settings(), request(**{"x-forwarded-for": "10.0.0.7"}), False),
        (Settings(), request(**{"forwarded": "for=10.0.0.7"}), False),
        (Settings(), request(None), False),
        (Settings(), None, False),
    ],
)
def test_what_is_shared_is_for_this_machines_browsers_unless_the_host_says_otherwise(settings, visitor, may):
    assert is_allowed("auto", settings, visitor) is may
    assert is_allowed("everyone", settings, visitor) and not is_allowed("nobody", settings, visitor)


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
                      ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_addresses_are_known(host, own):
    assert is_loopback(host) is own
