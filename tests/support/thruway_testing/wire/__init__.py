"""HTTP on the wire: raw clients, comparison of what both ends saw, and load."""
