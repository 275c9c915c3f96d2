"""Renders the IR as Envoy's configuration, with protobuf's own classes (`xds-protos`).

Knows the IR and Envoy 1.40, neither Kubernetes nor gRPC. The listener is static, in the bootstrap;
only routes, clusters and secrets change.
Contract: "layers of the operator". With xds it is the only user of Envoy's protobuf classes.
"""
