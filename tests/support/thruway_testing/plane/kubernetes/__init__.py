"""A real Kubernetes API server and etcd for tests: built once, started in seconds, without root."""
