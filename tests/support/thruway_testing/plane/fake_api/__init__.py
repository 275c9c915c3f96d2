"""An API server in the test's own event loop, over HTTP, whose clock the test controls.

`server` answers requests from `objects`, and fails as `troubles` says; `clock` is the event loop.
"""

from thruway_testing.plane.fake_api.clock import in_fake_time, paused
from thruway_testing.plane.fake_api.objects import Objects
from thruway_testing.plane.fake_api.running import background, running
from thruway_testing.plane.fake_api.server import FakeApi, Seen

__all__ = ["FakeApi", "Objects", "Seen", "background", "in_fake_time", "paused", "running"]
