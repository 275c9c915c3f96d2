"""What sources produce and translation reads: resources, secret values and identities.

Contracts: "layers of the operator", "pure packages do no I/O".
"""
