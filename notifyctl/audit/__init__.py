"""The append-only log, the chain of seals over it, and its proof."""
