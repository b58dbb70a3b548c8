"""Why a network answers as it does: maps of importance, and how far each can be trusted."""
