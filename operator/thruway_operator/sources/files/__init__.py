"""Files and environment variables as the source, on a laptop and for commands.

Contract: "the two sources are independent".
"""
