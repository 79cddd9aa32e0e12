"""What operator and workers share: the Kubernetes API as plain documents, status writes, Events, logs, health."""
