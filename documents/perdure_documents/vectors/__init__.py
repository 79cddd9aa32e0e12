"""Where chunks and their vectors are kept and found again.

contract   what every vector store does
lance      LanceDB: a folder in the object store, without a server
pgvector   PostgreSQL with pgvector: a table
opening    the store of a URI
"""

from perdure_documents.vectors.contract import Found, Kept, StoreDenied, StoreMismatch, VectorStore, VectorStoreError
from perdure_documents.vectors.opening import open_vectors

__all__ = ["Found", "Kept", "StoreDenied", "StoreMismatch", "VectorStore", "VectorStoreError", "open_vectors"]
