"""The planes around Thruway: Envoy, xDS, fake extprocs, a real API server and a real node."""
