"""Turns `PassthroughRoute` resources into Envoy's configuration and serves it.

`sources -> resources -> translate -> IR -> envoy -> xDS snapshot -> ADS/SDS -> Envoy`. Never in the
data path: with this package gone, traffic goes on.
"""
