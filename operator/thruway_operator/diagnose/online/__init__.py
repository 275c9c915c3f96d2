"""doctor, status and `check --cluster`: asks the API server. Decides little, writes nothing.

No value of a Secret leaves it.
Contract: "layers of diagnosis".
"""
