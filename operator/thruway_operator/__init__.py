"""The operator: turns `PassthroughRoute` resources into Envoy's configuration and serves it.

It never sits in the data path, and knows extproc by its rule alone.
Contracts: "layers of the operator", "the operator imports nothing of extproc that runs".
"""
