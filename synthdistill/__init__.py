"""synthdistill: copy a teacher LLM's behaviour on your task into a small student you own.

synthdistill demo
"""

__version__ = "0.1.0"
