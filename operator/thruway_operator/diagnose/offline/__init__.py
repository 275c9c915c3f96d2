"""check, translate, explain and inject: from files, without a network.

Contract: "layers of diagnosis".
"""
