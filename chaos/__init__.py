"""What happens to the cluster: faults, scenarios, workload, checker, oracle, report."""
