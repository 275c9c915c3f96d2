"""Where resources come from: files, the environment, later Kubernetes. All I/O of input is here."""
