"""`thruway up`: everything on one machine.

It and the controller do not import each other.
Contracts: "layers of the operator", "layers of the laptop".
"""
