"""What the cluster did, by the clock: samples of every member, events of etcd's log, figures from both."""
