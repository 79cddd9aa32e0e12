"""What the cluster shows: Jobs and pods of ours, watched once for the whole process."""
