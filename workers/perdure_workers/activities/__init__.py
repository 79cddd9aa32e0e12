"""Activities: the only code that touches the world. Each class holds the clients that it needs."""
