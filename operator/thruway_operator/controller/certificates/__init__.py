"""The certificates that the operator creates for itself: its own CA, and renewal.

`policy` decides, with the clock passed in; `issuing` creates keys and certificates; `keeper` reads
and writes the Secret and the ConfigMap that the chart created.
Contract: "parts of the controller are independent".
"""

from thruway_operator.controller.certificates.keeper import CertificateKeeper
from thruway_operator.controller.certificates.policy import Terms

__all__ = ["CertificateKeeper", "Terms"]
