"""The members' write-ahead logs as evidence: what raft committed, read from etcd's own files."""
