"""The machine under the lab: checks, tool chain, guest image, hypervisor, namespaces, ssh."""
