"""From whatever faults left behind back to a healthy cluster, and the inspection that finds nothing left."""
