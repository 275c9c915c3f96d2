"""The certificates that the operator makes for itself: an authority of its own, and renewal.

`policy` decides, with the clock passed in; `issuing` makes keys and certificates; `keeper` reads
and writes the Secret and the ConfigMap that the chart made for it.
"""

from thruway_operator.certificates.keeper import CertificateKeeper
from thruway_operator.certificates.policy import Terms

__all__ = ["CertificateKeeper", "Terms"]
