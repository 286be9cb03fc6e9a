"""Functions of users on scores, as masks and as scores: ALiBi, a softcap, a sliding window, additive attention."""
