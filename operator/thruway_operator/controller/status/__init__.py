"""Reports the state of each route in its status and in Events, where its author looks.

Every replica knows what its own proxies hold, and reports it to the others. The holder of the Lease
combines the reports and writes. `conditions` decides what to write and is pure; the other modules
decide when to write and which replica writes.
Contract: "parts of the controller are independent".
"""

from thruway_operator.controller.status.keeper import StatusKeeper
from thruway_operator.controller.status.observed import Observed

__all__ = ["Observed", "StatusKeeper"]
