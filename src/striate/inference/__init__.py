"""Answering fast: which way of computing a network's answers is taken, and that its answers are those of fp32."""
