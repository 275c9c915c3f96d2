"""What became of each route, written where its author looks: conditions, counts, events.

Every replica knows what its own proxies hold and tells the others; the one that holds the Lease
puts it together and writes. `conditions` decides and is pure; all else is about when and who.
"""

from thruway_operator.status.keeper import StatusKeeper
from thruway_operator.status.observed import Observed

__all__ = ["Observed", "StatusKeeper"]
