"""How much work each task queue has, told to whoever sizes the pools: backlog and slots in use."""
