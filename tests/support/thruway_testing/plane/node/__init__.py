"""A real node for tests: kubelet, containerd, kube-proxy and CoreDNS beside a real control plane.

Needs root and a few of Debian's packages; everything else is built from package registries.
"""
