"""Thruway as users have it: `thruway up`, the commands, manifests, pods, the SDKs."""
