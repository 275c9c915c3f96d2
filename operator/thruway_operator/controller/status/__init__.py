"""What became of each route, written where its author looks: conditions, counts, Events.

Every replica knows what its own proxies hold and tells the others; the one that holds the Lease
combines this and writes. `conditions` decides and is pure; everything else is about when and who.
Contract: "parts of the controller are independent".
"""

from thruway_operator.controller.status.keeper import StatusKeeper
from thruway_operator.controller.status.observed import Observed

__all__ = ["Observed", "StatusKeeper"]
