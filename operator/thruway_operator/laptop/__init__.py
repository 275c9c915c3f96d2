"""`thruway up`: everything on one machine.

It and the controller know nothing of each other.
Contracts: "layers of the operator", "layers of the laptop".
"""
