"""Where chunks and their vectors are kept and found again.

contract   what every vector store does
lance      LanceDB: a folder in the object store, without a server
opening    the store of a URI
"""

from perdure_documents.vectors.contract import Found, Kept, StoreMismatch, VectorStore, VectorStoreError
from perdure_documents.vectors.opening import open_vectors

__all__ = ["Found", "Kept", "StoreMismatch", "VectorStore", "VectorStoreError", "open_vectors"]
