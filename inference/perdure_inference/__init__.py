"""Models that answer: loaded once, kept warm, asked by one thread. Knows nothing of Temporal or Kubernetes.

machine        what a process may use of its machine, said before torch is imported
loading        a model's files into torch
encoder        texts into vectors
generator      prompts into texts
batches        what is computed together
engine         the one thread, its queue of requests and the models that it keeps
vectors        vectors as bytes: in an answer, in a file
"""
