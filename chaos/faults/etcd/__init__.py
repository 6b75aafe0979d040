"""Faults of the etcd process and of etcd's own maintenance."""
