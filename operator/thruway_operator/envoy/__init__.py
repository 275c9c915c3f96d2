"""Renders IR as Envoy's configuration, with protobuf's own classes (`xds-protos`).

Knows the IR and Envoy 1.40, neither Kubernetes nor gRPC. Rendering an unchanged route again costs
nothing. The listener is static, in the bootstrap; only routes, clusters and secrets change.
"""
