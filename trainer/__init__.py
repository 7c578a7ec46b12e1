"""The network, its recipe, and what stands before and after them. Nothing here knows of an orchestrator."""
