"""The page Train: one training at a time, started, paused and watched."""
