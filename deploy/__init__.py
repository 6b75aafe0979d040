"""What runs on the machines: etcd and its units, PKI, and the resource that applies them."""
