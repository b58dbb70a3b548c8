"""Fast inference: chooses the backend that computes predictions, and checks that these agree with plain fp32."""
