"""What exists: Pulumi components over libvirt, the manifest, the cluster as seen from outside."""
