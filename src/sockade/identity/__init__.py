"""Who: passwords, keys, tokens, tickets, sessions, sign-in links, and the contracts of their stores."""
