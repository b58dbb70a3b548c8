"""Fast inference: the backend that computes a network's predictions, and that they agree with those of fp32."""
