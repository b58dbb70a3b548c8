"""Is the loss lower for right predictions?"""
