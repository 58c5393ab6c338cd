"""Layer-wise relevance propagation: what the backward pass carries is relevance. Private."""
