"""The injector in a cluster: an admission webhook by kopf, and what the API server and pods need.

`server` answers the API server, `tls` is its certificate, `directory` knows the namespaces,
`bundle` keeps the webhook configuration's CA right, `publisher` the ConfigMap with the operator's
CA in the namespaces of pods. What becomes of a pod is decided by `inject` alone.
"""

from thruway_operator.admission.bundle import BundleKeeper
from thruway_operator.admission.directory import Directory
from thruway_operator.admission.publisher import AuthorityPublisher
from thruway_operator.admission.server import AdmissionServer

__all__ = ["AdmissionServer", "AuthorityPublisher", "BundleKeeper", "Directory"]
