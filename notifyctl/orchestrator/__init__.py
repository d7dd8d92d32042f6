"""The single pipe: decide whether a message may go, write it down, render it."""
