"""What operator, workers and scaler share: the Kubernetes API as plain documents, logs, health, Temporal, TLS."""
